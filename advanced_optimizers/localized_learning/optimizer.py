"""The optimizer of LoCal+SGD: localized updates below the transition, a base optimizer from there on."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from advanced_optimizers._base import BaseOptimizer, WrappedOptimizer
from advanced_optimizers._checks import check_integer, check_range, refuse_per_sample_gradients
from advanced_optimizers.localized_learning.blocks import OrderRecorder, find_units, make_blocks
from advanced_optimizers.localized_learning.hebbian import RULES, Observers
from advanced_optimizers.localized_learning.transition import DynamicTransition, Schedule, Transition

_SEED_OFFSET = 0x4EBB  # the random control must not repeat the numbers with which the weights were initialized


class LocalizedOptimizer(WrappedOptimizer):
    r"""Selective localized learning: blocks below the transition learn by a localized rule, the others by SGD.

    In epoch :math:`e` the blocks with an index below the transition :math:`T_e` learn from what they see in the forward
    pass; the others learn from their gradient, through the base optimizer. For a localized layer with input :math:`a`
    and pre-activation :math:`z = W a + b`, with the base optimizer's learning rate :math:`\eta(t)` at step :math:`t`:

    .. math::
        \Delta W &= \sum_b z_b a_b^T \quad \text{(a convolution also sums over positions)} \\
        W_{t+1} &= W_t + \sigma_e \, k \, \eta_h \, \frac{\eta(t)}{\eta} \, \frac{\Delta W}{\lVert \Delta W \rVert_2}
        \quad \text{at every } k \text{-th step}

    where :math:`\eta_h` = ``hebbian_lr``, :math:`k` = ``update_every``, and :math:`\eta` is the ``lr`` with which the
    optimizer was built. After every epoch, :meth:`end_epoch` may move the transition up, never down, and sets
    :math:`\sigma` according to the training loss :math:`L` (weak supervision, with :math:`w` =
    ``weak_supervision_weight``):

    .. math::
        \sigma_{e+1} = 1 \text{ if } L_e \le L_{e-1}, \text{ else } -w

    **What it saves.** Parameters below the transition have ``requires_grad`` off, so autograd stores no activations and
    computes no gradients there, not even through skip connections. A localized layer costs its forward pass and, at
    every :math:`k`-th step, its :math:`\Delta W`.

    **The training loop** is the ordinary one (zero_grad, loss, backward, step), in any order that works for the base
    optimizer, with ``optimizer.end_epoch(train_loss)`` at the end of each epoch. In the first epoch all blocks learn by
    SGD.

    Args:
        model: The network. Its ``blocks`` are made from its children, in the order in which they first run;
            a ``Sequential``, ``ModuleList`` or ``ModuleDict`` is replaced by its children. Each block begins with a
            ``Linear``, a ``Conv2d`` or a module that contains one (a residual block is one block), and includes the
            modules that follow. Until the first step, the order is the one in which the model lists its modules.
        base_optimizer: An ``Optimizer`` class, or a function ``(params, **kwargs) -> Optimizer``.
        base_optimizer_kwargs: Passed to it; ``lr`` is also the :math:`\eta` above. With a learning-rate schedule, pass
            the rate at its peak, which ``OneCycleLR`` calls ``max_lr``.
        hebbian_lr: :math:`\eta_h \ge 0`, the distance that a weight tensor moves in one step at the full learning rate,
            whatever its size: 391 steps of 0.001 move it by 0.39 at most. Also in ``param_groups``.
        weak_supervision_weight: :math:`w \ge 0`. While the loss rises, 1 reverses the localized updates and 0 pauses
            them.
        selection: How the transition moves: a :class:`DynamicTransition` (the default) or a :class:`StaticTransition`.
        max_transition: The highest transition, from 0 (SGD only) to the number of blocks minus 1. Default: the number
            of blocks minus 2, but at least 1.
        rule: ``"hebbian"``; ``"oja"``, with Oja's decay in :math:`\Delta W`; or one of two controls under the same
            schedule: ``"random"``, a random direction of the same norm, and ``"frozen"``, no update.
        update_every: :math:`k \ge 1`. With 1 there is an update at every step, as in the paper; with a larger value the
            weights move equally far per step on average, at a fraction of the cost.

    Attributes:
        model: The network.
        blocks: Its blocks, in order; each has ``name``, ``layers`` and ``params``.
        selection: How the transition moves.
        max_transition: The highest transition.

    Raises:
        TypeError: ``model`` is not a module or is wrapped for several devices, ``base_optimizer`` is not an optimizer,
            or a value is not a number.
        ValueError: A value is out of range, the model has fewer than two blocks, two blocks share a parameter, or
            another LocalizedOptimizer is attached to it.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from advanced_optimizers import LocalizedOptimizer
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> optimizer = LocalizedOptimizer(model, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9})
        >>> for epoch in range(3):
        ...     loss = model(torch.ones(16, 4)).square().mean()
        ...     optimizer.zero_grad()
        ...     loss.backward()
        ...     optimizer.step()
        ...     optimizer.end_epoch(loss.item())
        >>> optimizer.transition
        0

    References:
        Krithivasan, Sen, Venkataramani, Raghunathan: Accelerating DNN Training Through Selective Localized Learning.
        Frontiers in Neuroscience 15:759807, 2022. doi 10.3389/fnins.2021.759807. First submitted to ICLR 2021.

    Departures from the paper:
        From the paper, according to its abstracts: one transition layer per epoch, which starts with SGD for all layers
        and moves in one direction; static and dynamic selection; a learning rate of the localized updates that follows
        the training loss. From memory of its text, not checked again: the product :math:`z a^T` with the
        pre-activation, the norm of 1, the reversal when the loss rises (:math:`w = 1`), the rule
        :math:`u_e \le \alpha \bar u`, and that normalization layers below the transition are not trained (their running
        statistics still change).
        Ours: values of :math:`w` other than 1; the factor :math:`\eta(t)/\eta`; ``update_every``; fixed biases and
        neither momentum nor weight decay below the transition; blocks as the steps of the transition;
        ``max_transition``, the warm-up and all defaults; :math:`u_e = \lVert W_{end} - W_{start} \rVert / \sum_t
        \eta(t)` over the epoch, so that a falling learning rate alone does not look like convergence. The localized
        update is made in :meth:`step`, together with the base optimizer's. If each layer runs once per step, this is
        the same as an update during the forward pass; and a step that ``GradScaler`` skips is skipped as a whole.

    Limitations:
        Below the transition, a module stays as it is if it is neither ``Linear`` nor ``Conv2d``, if its weight is
        computed from other parameters, or if its weight is used without calling the module; so do parameters that the
        user froze. Parameters outside all submodules, and those of a group added later, always learn by gradient. If
        there are several forward passes between two steps, their directions are added. A direction whose norm is 0 or
        not finite moves nothing. ``DataParallel`` and ``DistributedDataParallel`` are refused. Compile the model after
        building the optimizer; it is compiled again whenever the transition moves.
    """

    def __init__(
        self,
        model: nn.Module,
        base_optimizer: BaseOptimizer = torch.optim.SGD,
        base_optimizer_kwargs: dict[str, Any] | None = None,
        hebbian_lr: float = 1e-3,
        weak_supervision_weight: float = 0.1,
        *,
        selection: Transition | None = None,
        max_transition: int | None = None,
        rule: str = "hebbian",
        update_every: int = 8,
    ) -> None:
        _check_model(model)
        check_range("weak_supervision_weight", weak_supervision_weight, low=0.0, high=math.inf, open_high=True)
        if rule not in RULES:
            raise ValueError(f"rule must be one of {sorted(RULES)}, got {rule!r}")
        check_integer("update_every", update_every, low=1)
        own = {"hebbian_lr": hebbian_lr}
        self._check_group(own)
        super().__init__(model.parameters(), base_optimizer, base_optimizer_kwargs, own)
        self._full_lr = float(self.param_groups[0]["lr"])
        check_range("lr", self._full_lr, low=0.0, open_low=True)

        self.model = model
        self.selection: Transition = DynamicTransition() if selection is None else selection
        self.weak_supervision_weight = weak_supervision_weight
        self.rule = rule
        self.update_every = update_every
        self._units = find_units(model)
        self._order: list[int] = []  # of execution, as indices of units; empty until the first step
        self.blocks = make_blocks(self._units)
        self.max_transition = max(1, len(self.blocks) - 2) if max_transition is None else max_transition
        check_integer("max_transition", self.max_transition, low=0)
        check_range("max_transition", self.max_transition, high=len(self.blocks) - 1)

        self._schedule = Schedule(updates=[[] for _ in self.blocks])
        self._localized: list[nn.Parameter] = []  # whose requires_grad is off because of the transition
        self._generator = torch.Generator().manual_seed((torch.initial_seed() + _SEED_OFFSET) % 2**63)
        self._detached = False
        self._attach()

    def _check_group(self, group: dict[str, Any]) -> None:
        check_range("hebbian_lr", group["hebbian_lr"], low=0.0, high=math.inf, open_high=True)

    def _attach(self) -> None:
        layers = [layer for block in self.blocks for layer in block.layers if not self._detached]
        self._observers = Observers(layers, RULES[self.rule], self._generator)
        self._observe()
        self._order_hooks: list[RemovableHandle] = []
        if not self._order and not self._detached:
            self._order_hooks = [
                unit.register_forward_pre_hook(OrderRecorder(self._order, i)) for i, (_, unit) in enumerate(self._units)
            ]

    @property
    def transition(self) -> int:
        """Index of the first block that learns by gradient; 0 while all blocks do."""
        return self._schedule.transition

    @property
    def localized_direction(self) -> float:
        """Sigma: 1, or minus ``weak_supervision_weight`` after an epoch in which the training loss rose."""
        return self._schedule.direction

    @property
    def loss_history(self) -> list[float]:
        """The training losses that were passed to :meth:`end_epoch`."""
        return list(self._schedule.losses)

    # ---- a step --------------------------------------------------------------------------------------------------

    def _update(self) -> None:
        refuse_per_sample_gradients("LocalizedOptimizer", self.param_groups)
        self._settle_order()
        self._remember_epoch_start()
        super()._update()
        self._step_localized()
        self._schedule.lr_sum += float(self.param_groups[0]["lr"])
        self._schedule.steps += 1
        self._observe()

    def _observe(self) -> None:
        # Layers are observed only before steps that update them.
        due = self._schedule.steps % self.update_every == 0
        self._observers.activate(self._localized if due else [])

    def _step_localized(self) -> None:
        self._schedule.expected += self._observers.expecting
        directions = self._observers.collect()
        if not directions:
            return
        self._schedule.observed += 1
        group = self.param_groups[0]
        distance = self.update_every * group["hebbian_lr"] * float(group["lr"]) / self._full_lr
        norms = [torch.linalg.vector_norm(direction) for direction in directions.values()]
        values = torch.stack([norm.to(norms[0].device) for norm in norms]).tolist()  # one device sync
        for (weight, direction), norm in zip(directions.items(), values, strict=True):
            if 0.0 < norm < math.inf:
                weight.add_(direction, alpha=self.localized_direction * distance / norm)

    def _settle_order(self) -> None:
        # The first forward pass has shown in which order the units run. Those that did not run come last.
        if self._order and self._order_hooks:
            self._order += [i for i in range(len(self._units)) if i not in self._order]
            self.blocks = make_blocks([self._units[i] for i in self._order])
            _remove(self._order_hooks)

    # ---- an epoch ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def end_epoch(self, train_loss: float) -> None:
        """Moves the transition up if it is time, and sets the direction of the next epoch's localized updates.

        Args:
            train_loss: The epoch's training loss. A loss that is not finite counts as risen.

        Raises:
            TypeError: ``train_loss`` is not a number.
            RuntimeError: The optimizer is detached, or it made steps without seeing a forward pass of its localized
                layers.
        """
        loss = train_loss.item() if isinstance(train_loss, Tensor) and train_loss.numel() == 1 else train_loss
        if isinstance(loss, bool) or not isinstance(loss, int | float):
            raise TypeError(f"train_loss must be a number, got {train_loss!r}")
        self._check_observed()
        self._measure_updates()
        self._schedule.end_epoch(float(loss), self.selection, self.max_transition, self.weak_supervision_weight)
        self._localize()

    def _check_observed(self) -> None:
        if self._detached:
            raise RuntimeError(
                "end_epoch needs the model's layers, but detach() has released them: build a new LocalizedOptimizer"
            )
        if self._schedule.expected > 0 and self._schedule.observed == 0:
            raise RuntimeError(
                f"the {self.transition} localized blocks saw no forward pass in training mode with gradients enabled "
                "during this epoch: train the model with which the optimizer was built, not a copy of it, and compile "
                "the model after building the optimizer"
            )

    def _localize(self) -> None:
        for p in (p for block in self.blocks[: self.transition] for p in block.params):
            if p.requires_grad:  # not what the user froze
                self._localized.append(_frozen(p))
        self._observe()

    def _measured(self) -> dict[int, list[Tensor]]:
        """The weights of each block that may still become localized, if that depends on how far they move."""
        if not isinstance(self.selection, DynamicTransition):
            return {}
        indices = range(self.transition, self.max_transition)
        return {i: list(dict.fromkeys(layer.weight for layer in self.blocks[i].layers)) for i in indices}

    def _remember_epoch_start(self) -> None:
        for weight in (weight for weights in self._measured().values() for weight in weights):
            if "epoch_start" not in self.state[weight]:  # end_epoch removes it
                self.state[weight]["epoch_start"] = weight.detach().clone()

    def _measure_updates(self) -> None:
        """Records u_e of each block, in units of the learning rate; an epoch with rate 0 is not measured."""
        for i, weights in self._measured().items():
            starts = [self.state[w].pop("epoch_start") for w in weights if "epoch_start" in self.state.get(w, {})]
            if starts and self._schedule.lr_sum > 0.0:
                moved = math.hypot(*(float((w - start).norm()) for w, start in zip(weights, starts, strict=True)))
                self._schedule.updates[i].append(moved / self._schedule.lr_sum)

    # ---- leaving, saving, copying --------------------------------------------------------------------------------

    def detach(self) -> None:
        """Removes the hooks and restores ``requires_grad``. From then on the optimizer acts as its base alone."""
        self._detached = True
        self._observers.remove()
        _remove(self._order_hooks)
        for p in self._localized:
            p.requires_grad_(True)
        self._localized = []
        self._schedule.transition = 0

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state under ``"base"``, that of schedule and generator under ``"localized"``."""
        params = self.param_groups[0]["params"]
        place = {p: i for i, p in enumerate(params)}
        localized = {
            "schedule": asdict(self._schedule),
            "params": [place[p] for p in self._localized],
            "order": self._settled_order,
            "generator": self._generator.get_state(),
        }
        return {**super().state_dict(), "localized": localized}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned, on a model with the same layers.

        Raises:
            ValueError: ``state_dict`` is not that of a LocalizedOptimizer, or that of another model, or its transition
                is above ``max_transition``.
        """
        saved = state_dict.get("localized")
        if saved is None:
            raise ValueError(
                f"state_dict must hold the schedule's state under 'localized', got the keys {sorted(state_dict)}: "
                "it was not saved by LocalizedOptimizer"
            )
        schedule, order = Schedule(**copy.deepcopy(saved["schedule"])), saved["order"]
        if len(schedule.updates) != len(self.blocks) or len(order) not in (0, len(self._units)):
            modules = f" in {len(order)} modules" if order else ""
            raise ValueError(
                f"state_dict must be that of a model with {len(self.blocks)} blocks in {len(self._units)} modules, got "
                f"one with {len(schedule.updates)} blocks{modules}: build the model as it was when saved"
            )
        check_range("transition of state_dict", schedule.transition, high=self.max_transition)
        super().load_state_dict(state_dict)
        for p in self._localized:
            p.requires_grad_(True)
        params = self.param_groups[0]["params"]
        self._localized = [_frozen(params[i]) for i in saved["params"]]
        self._schedule = schedule
        self._order[:] = order or self._order
        self._settle_order()
        self._generator.set_state(saved["generator"].cpu())
        self._observe()

    @property
    def _settled_order(self) -> list[int]:
        return [] if self._order_hooks else list(self._order)

    def __getstate__(self) -> dict[str, Any]:
        own = super().__getstate__()
        del own["_observers"], own["_order_hooks"]  # a copy attaches its own
        return {**own, "_order": self._settled_order}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "model" in state:  # a copy; torch's load_state_dict calls this method too
            self._attach()


def _check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {model!r}")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise TypeError(
            f"model must not be wrapped in {type(model).__name__}, because each of its copies would learn a direction "
            "of its own: pass the module itself and train it on one device"
        )


def _frozen(p: nn.Parameter) -> nn.Parameter:
    p.requires_grad_(False)
    p.grad = None  # otherwise the base optimizer would step with it again and again
    return p


def _remove(hooks: list[RemovableHandle]) -> None:
    for hook in hooks:
        hook.remove()
    hooks.clear()
