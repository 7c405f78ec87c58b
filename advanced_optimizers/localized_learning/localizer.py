"""Which blocks of a network come first, and which of their parameters are localized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from advanced_optimizers.localized_learning import processes
from advanced_optimizers.localized_learning.blocks import (
    LARGE,
    Block,
    count_parameters,
    find_units,
    has_layer,
    make_blocks,
)
from advanced_optimizers.localized_learning.once import Once
from advanced_optimizers.localized_learning.order import Order, Recorder


class Localizer:
    """The blocks of a model in the order of execution, and the parameters of those below the transition.

    Args:
        model: The network.
        once: Gives its warnings.

    Attributes:
        units: The modules of which the blocks consist, as the model lists them.
        order: What the passes have shown so far about the order in which they run.
        blocks: The blocks: first those that may be localized, in the order of execution, then those that compute the
            model's output, then those that never ran. Before the first pass, as the model lists them.
        highest: How many blocks may be localized.
        params: The localized parameters: their ``requires_grad`` is off because of the transition.
        kept: The other parameters below the transition: those that the user froze before, and those on which the user
            has switched ``requires_grad`` on since.
    """

    def __init__(self, model: nn.Module, once: Once) -> None:
        self._model = model
        self._once = once
        self.units = find_units(model)
        self.order = Order()
        self.blocks: tuple[Block, ...] = ()
        self.highest = 0
        self.params: list[nn.Parameter] = []
        self.kept: set[nn.Parameter] = set()
        self._owners: list[int] = []  # of each block, its unit with layers
        self._outputs = 0  # how many blocks compute the output
        self._checked: dict[int, int] = {}  # the transition at which a unit was last seen to learn by gradient
        self._recorder: Recorder | None = None
        self._arrange()

    # ---- the order of execution ----------------------------------------------------------------------------------

    def attach(self) -> None:
        """From now on the passes of the model show in which order its units run."""
        self._recorder = Recorder(self._model, self.units, self.order)

    def detach(self) -> None:
        """Removes the hooks, and localizes nothing any more."""
        if self._recorder is not None:
            self._recorder.remove()
        self._recorder = None
        self.release()

    def settle(self) -> bool:
        """Learns from what ran since the last call; returns whether the first pass has just shown an order."""
        if self._recorder is None:
            return False
        self._recorder.settle()
        first = bool(self.order.ran) and not self._recorder.known
        self._recorder.known = bool(self.order.ran)
        return first

    def arrange(self) -> list[int]:
        """Makes the blocks anew from what the passes have shown; returns the former place of each."""
        if processes.several():
            self._share_order()
        return self._arrange()

    def _arrange(self) -> list[int]:
        former = {block.layers[0]: place for place, block in enumerate(self.blocks)}
        ran, outputs = self.order.ran, self.order.outputs
        sequence = self._sequence()
        blocks = make_blocks([self.units[i] for i in sequence])
        owners = [i for i in sequence if has_layer(self.units[i])]  # each block has one such unit
        kinds = [1 if i in outputs else 0 if i in ran else 2 for i in owners] if ran else [0] * (len(owners) - 1) + [1]
        places = sorted(range(len(owners)), key=lambda place: kinds[place])
        self.blocks = tuple(blocks[place] for place in places)
        self._owners = [owners[place] for place in places]
        self.highest, self._outputs = kinds.count(0), kinds.count(1)
        return [former.get(block.layers[0], place) for place, block in enumerate(self.blocks)]

    def _sequence(self) -> list[int]:
        return self.order.sequence() + [i for i in range(len(self.units)) if i not in self.order.ran]

    def _share_order(self) -> None:
        """Takes over what the passes of the other processes have shown, which may have skipped other layers."""
        n = len(self.units)
        table = torch.zeros(n + 2, n, dtype=torch.int32)
        rows = [*self.order.before, *((n, i) for i in self.order.ran), *((n + 1, i) for i in self.order.outputs)]
        for i, j in rows:
            table[i, j] = 1
        found = processes.union(table.to(self.blocks[0].params[0].device)).nonzero().tolist()
        self.order.before |= {(i, j) for i, j in found if i < n}
        self.order.ran |= {j for i, j in found if i == n}
        self.order.outputs |= {j for i, j in found if i == n + 1}

    def _check_boundary(self, transition: int) -> None:
        below, above = self._owners[:transition], self._owners[transition : self.highest]
        earlier = self.order.earlier()
        for i, j in ((i, j) for i in below for j in above if i in earlier and j in earlier):
            if i in earlier[j] and j in earlier[i]:
                raise RuntimeError(
                    f"the transition cannot move to {transition}, between {self.units[i][0]!r} and "
                    f"{self.units[j][0]!r}, because each of them ran before the other in some pass: make them one "
                    "module, or choose a max_transition that does not part them"
                )

    def beyond(self) -> str:
        """Why the blocks from ``highest`` on cannot be localized."""
        names = [block.name for block in self.blocks[self.highest :]]
        outputs, idle = names[: self._outputs], names[self._outputs :]
        reasons = [f"{outputs} compute the model's output"] if outputs else []
        return " and ".join(reasons + ([f"{idle} never ran in training mode"] if idle else []))

    def warn_of_large_blocks(self, highest: int) -> None:
        """Warns of a block of several layers below ``highest`` that holds most of the parameters."""
        total = max(1, count_parameters(p for _, module in self.units for p in module.parameters()))
        for block in self.blocks[:highest]:
            share = count_parameters(block.params) / total
            if len(block.layers) > 1 and share > LARGE:
                self._once.warn(
                    "large",
                    f"block {block.name!r} holds {share:.0%} of the parameters, and they become localized all at once: "
                    "make its parts children of the model, or a Sequential",
                )

    # ---- parameters ----------------------------------------------------------------------------------------------

    def localize(self, transition: int, *, stepped: bool) -> None:
        """Switches ``requires_grad`` off below the transition, and on again for what is no longer below it.

        Args:
            transition: How many blocks are below it.
            stepped: Whether there was a step; without one the order of the blocks need not be known.

        Raises:
            RuntimeError: It is not known in which order the blocks run, or they run in changing order.
        """
        if transition > 0 and stepped and not self.order.ran:
            raise RuntimeError(
                f"the transition cannot move to {transition}, because no forward pass of the model in training mode "
                "with gradients enabled has shown in which order its blocks run: train the model with which the "
                "optimizer was built"
            )
        self._check_boundary(transition)
        below = dict.fromkeys(p for block in self.blocks[:transition] for p in block.params)
        for p in self.params:
            if p not in below:
                p.requires_grad_(True)
        self.params = [p for p in self.params if p in below]
        self.kept &= below.keys()
        known = {*self.params, *self.kept}
        for p in (p for p in below if p not in known):
            if p.requires_grad:
                self.params.append(_frozen(p))
            else:
                self.kept.add(p)

    def give_back(self) -> bool:
        """Lets parameters learn by gradient on which the user has switched ``requires_grad`` on since."""
        taken = {p for p in self.params if p.requires_grad}
        if not taken:
            return False
        self.params = [p for p in self.params if p not in taken]
        self.kept |= taken
        names = [block.name for block in self.blocks if not taken.isdisjoint(block.params)]
        self._once.warn(
            "requires_grad",
            f"requires_grad of {len(taken)} parameters in the localized blocks {names} was switched on, so they learn "
            "by gradient from now on: leave it off below the transition",
        )
        return True

    def release(self) -> None:
        """Localizes nothing any more."""
        for p in self.params:
            p.requires_grad_(True)
        self.params, self.kept, self._checked = [], set(), {}

    def check_reached(self, transition: int) -> None:
        """Raises a RuntimeError if a unit above the transition has lost its gradient since the transition moved."""
        if self._recorder is None or not self._recorder.unreached:
            return
        stopped = []
        for i in sorted(self._recorder.unreached):
            if self._checked.get(i) == transition:
                continue
            name, unit = self.units[i]
            params = [p for p in unit.parameters() if p.requires_grad]
            if not params or any(p.grad is not None and bool(p.grad.any()) for p in params):
                self._checked[i] = transition
            elif i in self._checked and transition > 0:
                stopped.append(name)
        self._recorder.unreached.clear()
        if stopped:
            raise RuntimeError(
                f"the modules {stopped} ran but have had no gradient since the transition moved to {transition}: "
                "reentrant activation checkpointing computes none if its input does not require one, so pass "
                "use_reentrant=False to torch.utils.checkpoint.checkpoint"
            )

    # ---- saving --------------------------------------------------------------------------------------------------

    def state(self, place: Mapping[Any, int]) -> dict[str, Any]:
        """What is saved; parameters by their ``place`` in the optimizer."""
        return {
            "params": [place[p] for p in self.params],
            "kept": sorted(place[p] for p in self.kept),
            "order": self._sequence() if self.order.ran else [],
            "passes": self.order.state(),
        }

    def check_saved(self, saved: Mapping[str, Any]) -> None:
        """Raises a ValueError if ``saved`` is that of another model."""
        blocks, modules = len(saved["schedule"]["updates"]), len(saved["order"])
        if blocks != len(self.blocks) or modules not in (0, len(self.units)):
            raise ValueError(
                f"state_dict must be that of a model with {len(self.blocks)} blocks in {len(self.units)} modules, got "
                f"one with {blocks} blocks{f' in {modules} modules' if modules else ''}: build the model as it was "
                "when saved"
            )

    def restore(self, saved: Mapping[str, Any], params: Sequence[nn.Parameter]) -> None:
        """Takes over what :meth:`state` returned; an older checkpoint has only the order of its first pass."""
        if "passes" in saved:
            self.order.restore(**saved["passes"])
        elif saved["order"]:
            self.order.restore()
            self.order.add(saved["order"])
        self._arrange()
        if self._recorder is not None:
            self._recorder.known = bool(self.order.ran)
        self.release()
        self.params = [_frozen(params[i]) for i in saved["params"]]
        self.kept = {params[i] for i in saved.get("kept", [])}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_recorder": None}  # a copy attaches its own


def _frozen(p: nn.Parameter) -> nn.Parameter:
    p.requires_grad_(False)
    p.grad = None  # otherwise the base optimizer would step with it again and again
    return p
