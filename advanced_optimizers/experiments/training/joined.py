"""Several optimizers over different parameters as one, such as one for matrices and another for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import torch
from torch.optim import Optimizer


class JoinedOptimizer(Optimizer):
    """Several optimizers as one, with torch's whole contract.

    ``param_groups`` holds the parts' own groups, so a scheduler acts on all of them, each from its own rate. All parts
    keep their state in one dict, which works because no parameter belongs to two of them. So ``state_dict`` has torch's
    form. Each group says under ``part`` which optimizer it belongs to, counted from 0.

    Limitations:
        A closure is called once, before the first part steps: parts that need one of their own are not supported.

    Args:
        parts: Optimizers over different parameters, at least one. They must not be stepped on their own any more.

    Raises:
        ValueError: There is no part, or a parameter belongs to two of them.
    """

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        if not parts:
            raise ValueError("parts must hold at least one optimizer, got none")
        self.parts: list[Optimizer] = []  # empty while torch collects the groups, which the parts have already
        for index, part in enumerate(parts):
            for group in part.param_groups:
                group["part"] = index
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = list(parts)
        for part in parts:
            self.state.update(part.state)
        self._share()

    def _share(self) -> None:
        """Gives the parts the one state, and their groups as they are now."""
        for index, part in enumerate(self.parts):
            groups = [group for group in self.param_groups if group["part"] == index]
            part.__setstate__({"state": self.state, "param_groups": groups})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group to the part that it names under ``part``, by default to the last one.

        Raises:
            ValueError: There is no such part, or a parameter is already optimized.
        """
        if not self.parts:
            super().add_param_group(param_group)
            return
        index = param_group.setdefault("part", len(self.parts) - 1)
        if index not in range(len(self.parts)):
            raise ValueError(f"part must be one of 0 to {len(self.parts) - 1}, got {index!r}")
        super().add_param_group(param_group)  # checks first that no part has its parameters
        self.param_groups.pop()
        self.parts[index].add_param_group(param_group)
        self.param_groups.append(self.parts[index].param_groups[-1])

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Lets each part make one step.

        Args:
            closure: Clears the gradients, computes the loss, calls ``backward`` and returns the loss. Called once.

        Returns:
            The closure's loss, or ``None``.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "parts": self.parts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()
