"""A record of kernels over time that stays short however long the training."""

from __future__ import annotations

from torch import Tensor

LENGTH = 1000


class History:
    """Keeps every n-th row, with n doubled whenever there are ``LENGTH`` of them, so at most that many in all.

    Rows stay on their device until they are read, so that recording does not wait for it.
    """

    def __init__(self) -> None:
        self.rows: list[Tensor] = []
        self.every = 1
        self.seen = 0

    def append(self, row: Tensor) -> None:
        """Records a row, which nobody may write to later."""
        if self.seen % self.every == 0:
            if len(self.rows) == LENGTH:
                self.rows = self.rows[::2]
                self.every *= 2
            if self.seen % self.every == 0:
                self.rows.append(row)
        self.seen += 1

    def read(self) -> list[Tensor]:
        """The rows, on the CPU."""
        return [row.cpu() for row in self.rows]
