"""What the processes of a data-parallel training tell each other about their samples."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from advanced_optimizers._checks import count_processes

__all__ = ["gather_integers", "gather_rows"]


def gather_integers(
    values: dict[str, int], device: torch.device, group: dist.ProcessGroup | None
) -> dict[str, list[int]]:
    """Each value of every process, in the order of the ranks."""
    mine = torch.tensor(list(values.values()), device=device)
    gathered = [torch.empty_like(mine) for _ in range(count_processes(group))]
    dist.all_gather(gathered, mine, group=group)
    return dict(zip(values, torch.stack(gathered, dim=1).tolist(), strict=True))


def gather_rows(rows: Tensor, counts: list[int], group: dist.ProcessGroup | None) -> Tensor:
    """The rows of all processes, one process after the other; ``counts`` says how many rows each of them has."""
    if max(counts) == 0:  # which every process knows, so none of them waits
        return rows
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))  # gloo gathers equal shapes only
    padded[: len(rows)] = rows
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded, group=group)
    return torch.cat([theirs[:count] for theirs, count in zip(gathered, counts, strict=True)])
