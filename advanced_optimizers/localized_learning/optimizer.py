"""The optimizer of LoCal+SGD: localized updates below the transition, a base optimizer from there on."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from advanced_optimizers._base import BaseOptimizer, WrappedOptimizer
from advanced_optimizers._checks import check_choice, check_integer, check_range, refuse_per_sample_gradients
from advanced_optimizers.localized_learning import arguments, movement, processes, saved_form
from advanced_optimizers.localized_learning.blocks import Block
from advanced_optimizers.localized_learning.closures import hear_closures
from advanced_optimizers.localized_learning.hebbian import RULES, Observers, move_weights
from advanced_optimizers.localized_learning.localizer import Localizer
from advanced_optimizers.localized_learning.once import Once
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
    optimizer, with ``optimizer.end_epoch(train_loss)`` at the end of each epoch. In a loop that is not yours, pass
    ``steps_per_epoch``: the optimizer then ends the epochs itself, and takes their loss from the closure or from
    :meth:`observe`. In the first epoch all blocks learn by SGD.

    Args:
        model: The network. Its ``blocks`` are made from its children; a ``Sequential``, ``ModuleList`` or
            ``ModuleDict`` is replaced by its children, and so is any module that holds more than half of the
            parameters if that yields at least three parts with layers (a backbone). Each block begins with a
            ``Linear``, a ``Conv2d`` or a module that contains one (a residual block is one block), and includes the
            modules that follow. May be wrapped in ``DistributedDataParallel(..., find_unused_parameters=True)``.
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
        steps_per_epoch: After how many steps the optimizer ends an epoch by itself. Without a loss there is no weak
            supervision (:math:`\sigma = 1`), with a warning; both kinds of transition do without.

    Attributes:
        model: The network, without its wrapper.
        blocks: Its blocks, in order; each has ``name``, ``layers`` and ``params``.
        selection: How the transition moves.
        max_transition: The highest transition.

    Raises:
        TypeError: ``model`` is not a module, or is wrapped in ``DataParallel`` or sharded; ``base_optimizer`` is not an
            optimizer, or ``selection`` not a transition; or a value is not a number.
        ValueError: A value is out of range, the model has fewer than two blocks, two blocks share a parameter, all
            parameters are frozen, or another LocalizedOptimizer is attached to it.

    Warns:
        UserWarning: Once for each of these: a block to be localized holds most of the parameters; no epoch has ended
            in 2000 steps; an epoch ended without a loss; the model does not allow the transition that is due;
            ``requires_grad`` of a localized parameter was switched on.

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

    Order of execution:
        Every forward pass of the model in training mode shows it, and the blocks are put in that order after the first
        step and before each move of the transition. A layer may be skipped in some passes; one that runs several times
        stands where it first runs. A block that computes an output of the model, or runs last, is never localized, nor
        is one that has not run. Blocks that run in changing order cannot be parted: :meth:`end_epoch` raises an error.

    Several processes:
        If ``torch.distributed`` has several, all of them must train copies of the model, in step. Their directions are
        added up, which is exactly the direction of the whole batch (either rule is a sum over samples), and their
        losses averaged; gradients are left to ``DistributedDataParallel``. The first step of an epoch checks that
        weights and gradients agree. Batch statistics are each process's own, unless you use ``SyncBatchNorm``.

    Limitations:
        Below the transition, a module stays as it is if it is neither ``Linear`` nor ``Conv2d``, if its weight is
        computed from other parameters, or if its weight is used without calling the module; so do parameters that the
        user froze. Switching ``requires_grad`` on below the transition makes a parameter learn by gradient from then
        on; switching it off there cannot be noticed, so freeze before or after :meth:`detach`. Parameters outside
        all blocks, such as a class token, and those of a group added later, always learn by gradient. If there are
        several forward passes between two steps, their directions are added. A direction whose norm is 0 or not finite
        moves nothing. Reentrant activation checkpointing loses the gradients above the transition, which raises an
        error. ``DataParallel`` and sharded parameters are refused. Compile the model after building the optimizer; it
        is compiled again whenever the transition moves, and its order is that of the first step.
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
        steps_per_epoch: int | None = None,
    ) -> None:
        model = arguments.check_model(model)
        self.selection = arguments.check_selection(selection)
        self.weak_supervision_weight = arguments.check_weight(weak_supervision_weight)
        self.rule = check_choice("rule", rule, RULES)
        self.update_every = check_integer("update_every", update_every, low=1)
        self.steps_per_epoch = arguments.check_steps(steps_per_epoch)
        self._check_group({"hebbian_lr": hebbian_lr})
        own = {"hebbian_lr": check_range("hebbian_lr", hebbian_lr)}
        super().__init__(model.parameters(), base_optimizer, base_optimizer_kwargs, own)
        self._full_lr = arguments.check_lr(self.param_groups[0])

        self.model = model
        self._once = Once()
        self._localizer = Localizer(model, self._once)
        self.max_transition = max(1, len(self.blocks) - 2)
        if max_transition is not None:
            self.max_transition = check_integer("max_transition", max_transition, low=0)
            check_range("max_transition", self.max_transition, high=len(self.blocks) - 1)
        self._localizer.warn_of_large_blocks(self.max_transition)
        self._schedule = Schedule(updates=[[] for _ in self.blocks])
        self._generator = torch.Generator().manual_seed((torch.initial_seed() + _SEED_OFFSET) % 2**63)
        self._detached = False
        self._moved = False  # whether the transition has moved since the last step
        self._attach()

    def _check_group(self, group: dict[str, Any]) -> None:
        check_range("hebbian_lr", group["hebbian_lr"], low=0.0, high=math.inf, open_high=True)

    def _attach(self) -> None:
        layers = [layer for block in self.blocks for layer in block.layers if not self._detached]
        self._observers = Observers(layers, RULES[self.rule], self._generator)
        self._observe()
        if not self._detached:
            self._localizer.attach()
        if self.steps_per_epoch is not None:
            hear_closures(self, self)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The model's blocks, in order."""
        return self._localizer.blocks

    @property
    def _params(self) -> list[nn.Parameter]:
        return [p for group in self.param_groups for p in group["params"]]

    @property
    def transition(self) -> int:
        """Index of the first block that learns by gradient; 0 while all blocks do."""
        return self._schedule.transition

    @property
    def localized_direction(self) -> float:
        """Sigma: 1, or minus ``weak_supervision_weight`` after an epoch in which the training loss rose."""
        return self._schedule.direction

    @property
    def loss_history(self) -> list[float | None]:
        """The training loss of each epoch, the mean over all processes; None for an epoch without one."""
        return list(self._schedule.losses)

    # ---- a step --------------------------------------------------------------------------------------------------

    def _update(self) -> None:
        refuse_per_sample_gradients("LocalizedOptimizer", self.param_groups)
        if self._localizer.settle():
            self._arrange()
            if self.transition > 0:  # it moved before anything ran
                self._move()
        if self._localizer.give_back():
            self._observe()
        self._check_learning()
        movement.remember(self.state, (self.blocks[i] for i in self._measured))
        super()._update()
        self._step_localized()
        self._schedule.count_step(float(self.param_groups[0]["lr"]))
        self._observe()
        if not self._detached:
            self._end_epoch_if_due()

    def observe(self, loss: float | Tensor) -> None:
        """Hears the loss of one batch; call it before :meth:`step`. A closure's loss is heard without this call.

        Args:
            loss: A number, or a tensor with one element, for which a GPU is not waited.

        Raises:
            TypeError: ``loss`` is not a number.
            RuntimeError: The optimizer was built without ``steps_per_epoch``.
        """
        checked = loss if isinstance(loss, Tensor) and loss.numel() == 1 else arguments.check_loss("loss", loss)
        if self.steps_per_epoch is None:
            raise RuntimeError(
                "observe(loss) needs steps_per_epoch, with which the optimizer ends epochs itself: build the optimizer "
                "with it, or pass the loss of the epoch to end_epoch"
            )
        self._schedule.observe(checked)

    def _observe(self) -> None:
        # Layers are observed only before steps that update them.
        due = self._schedule.steps % self.update_every == 0
        self._observers.activate(self._localizer.params if due else [])

    def _check_learning(self) -> None:
        self._localizer.check_reached(self.transition)
        if self._moved and processes.several():
            grads = [p.grad for p in self._params if p.grad is not None]
            processes.check_equal(self._schedule.values, self._localizer.params, grads, self._params[0].device)
        self._moved = False

    def _step_localized(self) -> None:
        weights = self._observers.weights
        directions = self._observers.collect()
        self._schedule.expected += bool(weights)
        self._schedule.observed += bool(directions)
        if weights and processes.several():
            directions = processes.add_up(directions, weights)
        group = self.param_groups[0]
        distance = self.update_every * group["hebbian_lr"] * float(group["lr"]) / self._full_lr
        move_weights(directions, self.localized_direction * distance)

    # ---- an epoch ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def end_epoch(self, train_loss: float) -> None:
        """Moves the transition up if it is time, and sets the direction of the next epoch's localized updates.

        Args:
            train_loss: The epoch's training loss. A loss that is not finite counts as risen.

        Raises:
            TypeError: ``train_loss`` is not a number.
            RuntimeError: The optimizer is detached, ends epochs itself, or made steps without seeing a forward pass of
                its model; or the transition would part blocks that run in changing order.
        """
        loss = arguments.check_loss("train_loss", train_loss)
        if self.steps_per_epoch is not None:
            raise RuntimeError(
                f"end_epoch must not be called with steps_per_epoch={self.steps_per_epoch}, with which the optimizer "
                "ends epochs itself: leave one of them out; it hears losses from observe(loss)"
            )
        self._end_epoch(loss)

    def _end_epoch_if_due(self) -> None:
        schedule = self._schedule
        if self.steps_per_epoch is not None and schedule.epoch_steps >= self.steps_per_epoch:
            self._end_epoch(schedule.mean_loss)
        elif self.steps_per_epoch is None and schedule.steps == arguments.MANY_STEPS and not schedule.losses:
            self._once.warn("no epoch", arguments.NO_EPOCH)

    def _end_epoch(self, loss: float | None) -> None:
        if self._detached:
            raise RuntimeError(
                "end_epoch needs the model's layers, but detach() has released them: build a new LocalizedOptimizer"
            )
        self._schedule.check_observed()
        for i in self._measured:
            movement.record(self.state, self.blocks[i], self._schedule.lr_sum, self._schedule.updates[i])
        if processes.several():
            loss = processes.mean(loss, self._params[0].device)
        if loss is None:
            self._once.warn("no loss", arguments.NO_LOSS)
        self._localizer.settle()
        self._arrange()
        wanted = self._schedule.end_epoch(
            loss, self.selection, self.max_transition, self.weak_supervision_weight, self._localizer.highest
        )
        if wanted > self.transition:
            self._once.warn("limit", f"the transition stays at {self.transition}, because {self._localizer.beyond()}")
        self._move()

    def _arrange(self) -> None:
        places = self._localizer.arrange()
        self._schedule.updates = [self._schedule.updates[former] for former in places]
        self._schedule.transition = min(self.transition, self._localizer.highest)

    def _move(self) -> None:
        self._localizer.localize(self.transition, stepped=self._schedule.steps > 0)
        self._moved = True
        self._observe()

    @property
    def _measured(self) -> range:
        """The blocks that may still become localized, if that depends on how far they move."""
        return range(self.transition, self.max_transition if isinstance(self.selection, DynamicTransition) else 0)

    # ---- leaving, saving, copying --------------------------------------------------------------------------------

    def detach(self) -> None:
        """Removes the hooks and restores ``requires_grad``. From then on the optimizer acts as its base alone."""
        self._detached = True
        self._observers.remove()
        self._localizer.detach()
        self._schedule.transition = 0

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state under ``"base"``, that of schedule and generator under ``"localized"``."""
        place = {p: i for i, p in enumerate(self._params)}
        localized = {
            "schedule": self._schedule.state(),
            **self._localizer.state(place),
            "generator": self._generator.get_state(),
            "settings": arguments.settings_of(self),
        }
        return {**super().state_dict(), "localized": localized}

    def _check_extra(self, state_dict: dict[str, Any]) -> None:
        """Refuses the state of another model or setting, and one whose transition is above ``max_transition``."""
        saved = arguments.check_saved(state_dict)
        saved_form.check_form(saved, len(self._localizer.units), len(self._params))
        self._localizer.check_saved(saved)
        arguments.check_settings(saved, arguments.settings_of(self))
        check_range("transition of state_dict", Schedule.of(saved["schedule"]).transition, high=self.max_transition)

    def _load_extra(self, state_dict: dict[str, Any]) -> None:
        saved = state_dict["localized"]
        self._localizer.restore(saved, self._params)
        self._schedule = Schedule.of(saved["schedule"])
        self._generator.set_state(saved["generator"].cpu())
        self._moved = self.transition > 0
        self._observe()

    def __getstate__(self) -> dict[str, Any]:
        own = super().__getstate__()
        del own["_observers"]  # a copy attaches its own
        return own

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "model" in state:  # a copy; torch's load_state_dict calls this method too
            self._attach()
