"""The optimizer of a SigProp network: it trains the layers one by one, each with its own base optimizer."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from advanced_optimizers._base import BaseOptimizer, build_optimizer
from advanced_optimizers._checks import (
    check_closure,
    check_groups,
    check_process_group,
    count_processes,
    refuse_per_sample_gradients,
)
from advanced_optimizers.forward_signal.checks import (
    check_network,
    check_rate,
    check_state,
    check_trainable,
    with_shown_groups,
)
from advanced_optimizers.forward_signal.layers import SigPropSignalLayer
from advanced_optimizers.forward_signal.learning import has_finite_gradients, learn_unit, parameters_of, step_base
from advanced_optimizers.forward_signal.network import SigPropSequential
from advanced_optimizers.forward_signal.processes import (
    average_gradients,
    check_equal,
    check_exact,
    check_sharding,
    share_of_samples,
)

if TYPE_CHECKING:  # a torch built without distributed has no such class
    from torch.distributed import ProcessGroup

__all__ = ["LearnResult", "SigPropOptimizer", "create_sigprop_optimizer"]


class LearnResult(NamedTuple):
    """What :meth:`SigPropOptimizer.learn` returns for one batch, detached and computed before its updates.

    In several processes they are those of this process's part of the batch.

    Attributes:
        losses: One per layer, then the classifier's if there is one, (number of losses,).
        scores: The network's scores for the batch in training mode, (B, num_classes).
    """

    losses: Tensor
    scores: Tensor


class SigPropOptimizer(Optimizer):
    """Trains a SigProp network; each layer has its own base optimizer.

    There are two ways to train, which lead to the same weights for the same batches, bit for bit. The ordinary loop
    keeps the graphs of all layers:

        >>> import torch
        >>> from advanced_optimizers import SigPropNet, SigPropOptimizer
        >>> net = SigPropNet(64, [32, 16], 10)
        >>> optimizer = SigPropOptimizer(net, lr=1e-3)
        >>> x, y = torch.randn(8, 64), torch.randint(10, (8,))
        >>> optimizer.zero_grad()
        >>> sum(net.local_losses(x, y)).backward()
        >>> optimizer.step()

    :meth:`learn` updates each layer as soon as it is reached and then drops its graph and gradients, so that the memory
    of training does not grow with the number of layers:

        >>> losses, scores = optimizer.learn(x, y)

    ``param_groups`` has one group per layer and, last, one for the classifier. If the target generator learns, its
    group follows that of the first layer. The groups are the base optimizers' own dicts, so schedulers act on all of
    them.

    **Several processes.** Where ``torch.distributed`` is initialized, each process learns from its own part of a batch,
    with gradients averaged over all processes and weighted by their numbers of samples: the weights stay equal to those
    of one process with the whole batch. ``DistributedDataParallel`` is not needed. What would not be exact is refused
    at the first update: networks that are not equal in all processes, local losses and norms that depend on the rest of
    the batch. Before the second update the networks are compared again.

    Args:
        net: A :class:`SigPropSequential`, :class:`SigPropNet` or :class:`SigPropConvNet`.
        lr: Learning rate of the layers and the classifier, >= 0.
        signal_lr: Learning rate of the target generator, >= 0.
        base_optimizer: An ``Optimizer`` class, or a function ``(params, **kwargs) -> Optimizer``.
        base_optimizer_kwargs: Passed to ``base_optimizer``; must not contain ``lr``. See ``build_optimizer`` for the
            fast path on the CPU.
        process_group: The processes that learn together; by default all of them. For a network of its own in each
            process: ``torch.distributed.new_subgroups(group_size=1)[0]``.

    Attributes:
        net: The network.
        bases: The base optimizers, one for each of ``net.units()``; None for an output without weights.

    Raises:
        TypeError: ``net`` is not a SigProp network, or ``base_optimizer`` is not an optimizer.
        ValueError: A learning rate is negative or not finite, ``base_optimizer_kwargs`` contains one, or the network
            is sharded (FSDP2).

    References:
        Kohan, Rietman, Siegelmann, arXiv 2204.01723. The paper does not prescribe an optimizer.

    Limitations:
        Parameter groups follow the network, so :meth:`add_param_group` is refused. ``state`` shows what the base
        optimizers hold, for reading; :meth:`state_dict` has it under ``"bases"``. ``GradScaler`` works only with the
        ordinary loop; ``learn`` is for float32 and for bfloat16 autocast, which need no scaling.

        In several processes, all of them must make the same number of updates, as with ``DistributedDataParallel``.
        Dropout draws differ between them. ``nn.SyncBatchNorm`` is accepted but untested. A custom layer that compares
        the samples of its batch is noticed only if it keeps what it has seen in a buffer.
    """

    def __init__(
        self,
        net: SigPropSequential,
        lr: float = 1e-3,
        signal_lr: float = 1e-3,
        *,
        base_optimizer: BaseOptimizer = torch.optim.Adam,
        base_optimizer_kwargs: dict[str, Any] | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        check_network("net", net)
        check_sharding(net)
        check_process_group(process_group)
        lr, signal_lr = check_rate("lr", lr), check_rate("signal_lr", signal_lr)
        kwargs = {} if base_optimizer_kwargs is None else base_optimizer_kwargs
        if not isinstance(kwargs, Mapping):
            raise TypeError(f"base_optimizer_kwargs must be a dict such as {{'betas': (0.9, 0.99)}}, got {kwargs!r}")
        if "lr" in kwargs:
            raise ValueError(f"lr must be given as lr, not in base_optimizer_kwargs, got {kwargs['lr']!r} there")
        self.net = net
        self.process_group = process_group
        self._comparisons = 0  # of the processes' networks
        self.bases: list[Optimizer | None] = []
        for unit in net.units():
            groups = _parameter_groups(unit, lr, signal_lr)
            self.bases.append(build_optimizer(base_optimizer, groups, **kwargs) if groups else None)
        check_trainable(net)
        first = next(base for base in self.bases if base is not None)
        self._shown: list[dict[str, Any]] | None = None  # what a pipeline shows
        self._adopting = True
        super().__init__(self._base_groups(), {**first.defaults, "lr": lr})
        self._adopting = False
        self._groups = self._base_groups()

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimizers' own groups; in an open :class:`SigPropPipeline`, copies that it reads."""
        return self._groups if self._shown is None else self._shown

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        if self._adopting:  # torch's constructor fills a list of its own
            self._groups = groups
            return
        if self._shown is not None:
            raise RuntimeError("param_groups cannot be assigned in an open SigPropPipeline: close it first")
        check_groups(groups)
        if [list(map(id, group["params"])) for group in groups] != [
            list(map(id, group["params"])) for group in self._base_groups()
        ]:
            raise ValueError(
                f"param_groups must be the {len(self._base_groups())} groups of the network's layers with their "
                f"parameters, in their order, got {len(groups)} groups that differ: create a new SigPropOptimizer for "
                "other ones"
            )
        self._groups = list(groups)
        left = iter(groups)
        for base in self.bases:
            if base is not None:
                base.param_groups = [next(left) for _ in base.param_groups]

    def _show(self, groups: list[dict[str, Any]] | None) -> None:
        """Shows these groups instead of the base optimizers', until it is called with None."""
        self._shown = groups

    @property
    def state(self) -> defaultdict[Any, Any]:
        """What the base optimizers keep of each parameter; torch takes an empty state for that of a new optimizer."""
        states = [base.state for base in self.bases if base is not None]
        return defaultdict(dict, {p: kept for state in states for p, kept in state.items()})

    @state.setter
    def state(self, state: defaultdict[Any, Any]) -> None:
        """Changes nothing: torch's constructor sets an empty one."""

    def learn(self, x: Tensor, y: Tensor) -> LearnResult:
        """Learns from one batch in a single forward sweep, updating each layer as soon as it is reached.

        Gradients that the parameters hold are dropped, and none are left afterwards. Under ``torch.autocast`` the
        layers run in its precision, and their losses and updates in float32.

        Args:
            x: ``(B, *input_shape)``, in the network's precision.
            y: Labels, int64 (B,), from 0 to ``num_classes - 1``.

        Raises:
            TypeError: ``x`` or ``y`` is not a tensor.
            ValueError: A shape, a dtype or a label does not fit the network, or all parameters are frozen; then nothing
                was learned.
            RuntimeError: In several processes, learning would not equal that from the whole batch; nothing was learned.
        """
        self.net.check_batch(x, y)
        refuse_per_sample_gradients("SigPropOptimizer", self.param_groups)
        check_trainable(self.net)
        average = self._average_over_processes([len(x)])
        self._opt_called = True  # schedulers read this to warn about a missing step
        losses, h, t = [], x, self.net.contexts
        for unit, base in zip(self.net.units(), self.bases, strict=True):
            h, t, loss = learn_unit(unit, base, h, t, y, average)
            losses += [loss] if loss is not None else []
        return LearnResult(torch.stack(losses), h)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Lets the base optimizer of every layer step with the current gradients.

        Args:
            closure: Clears the gradients, computes the losses, calls ``backward`` and returns a loss. Called once.

        Returns:
            The closure's loss, or ``None`` without a closure.

        Raises:
            TypeError: ``closure`` is not a function.
            RuntimeError: In several processes, the step would not equal that with the whole batch.
        """
        loss = None
        check_closure(closure)
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        refuse_per_sample_gradients("SigPropOptimizer", self.param_groups)
        average = self._average_over_processes(self.net.batch_sizes)
        bases = [base for base in self.bases if base is not None]
        if average is not None:
            for base in bases:
                average(base)
            if hasattr(self, "found_inf") and not all(has_finite_gradients(base) for base in bases):
                return loss
        for base in bases:
            step_base(base)
        return loss

    @property
    def _step_supports_amp_scaling(self) -> bool:
        # Asks GradScaler to call step in every process: it would skip the step only where it found an overflow, and the
        # other processes would wait. During that call it sets grad_scale and found_inf.
        return count_processes(self.process_group) > 1

    def _average_over_processes(self, sizes: list[int]) -> Callable[[Optimizer], None] | None:
        """Returns what averages a base optimizer's gradients over the processes; None where there is only one.

        Args:
            sizes: The sizes of this process's batches since the last update.
        """
        self.net.batch_sizes = []
        group = self.process_group
        if count_processes(group) == 1:
            return None
        check_sharding(self.net)
        check_exact(self.net)
        if self._comparisons < 2:  # the second time shows whether the first update was the same everywhere
            check_equal(self.net, group)
            self._comparisons += 1
        share = share_of_samples(sizes, self.net.contexts.device, group)
        if (scale := getattr(self, "grad_scale", None)) is not None:
            share /= float(scale)
        return lambda base: average_gradients(parameters_of(base), share, group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Raises a TypeError: the groups are the network's layers."""
        if not self._adopting:
            raise TypeError(
                "SigPropOptimizer takes its groups from the network's layers: create a new one for a new network"
            )
        super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Returns the groups in torch's format, and the state of each base optimizer under ``"bases"``."""
        bases = [None if base is None else base.state_dict() for base in self.bases]
        return {**super().state_dict(), "state": {}, "bases": bases}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned.

        Raises:
            TypeError: ``state_dict`` is not a dict, or holds something else in the place of one.
            ValueError: ``state_dict`` was not made by this class, or by one for another number of layers, or a value is
                out of range. Nothing has changed then.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict must be a dict, got {state_dict!r}")
        saved = state_dict.get("bases")
        if not isinstance(saved, list) or [s is None for s in saved] != [base is None for base in self.bases]:
            found = f"{len(saved)} of them" if isinstance(saved, list) else f"the keys {sorted(state_dict)}"
            raise ValueError(
                f"state_dict must contain the state of {len(self.bases)} base optimizers under 'bases', got {found}: "
                "it was not saved by the SigPropOptimizer of a network like this one, or "
                "torch.distributed.checkpoint.state_dict dropped this part: save optimizer.state_dict() itself"
            )
        self._check_bases(saved)
        saved = with_shown_groups(saved, state_dict.get("param_groups"))
        self._check_bases(saved)
        before = [None if base is None else copy.deepcopy(base.state_dict()) for base in self.bases]
        try:
            self._load_bases(saved)
        except Exception:
            self._load_bases(before)
            raise
        self._groups = self._base_groups()
        self._comparisons = 0

    def _check_bases(self, states: list[Any]) -> None:
        for state, base in zip(states, self.bases, strict=True):
            if base is not None:
                check_state(state, base)

    def _load_bases(self, states: list[Any]) -> None:
        for base, state in zip(self.bases, states, strict=True):
            if base is not None:
                base.load_state_dict(copy.deepcopy(state))

    def _base_groups(self) -> list[dict[str, Any]]:
        return [group for base in self.bases if base is not None for group in base.param_groups]

    def __getstate__(self) -> dict[str, Any]:
        own = ("net", "bases", "process_group", "_comparisons", "_adopting", "_groups", "_shown")
        state = {k: value for k, value in super().__getstate__().items() if k not in ("state", "param_groups")}
        return {**state, **{name: getattr(self, name) for name in own}}


def create_sigprop_optimizer(model: SigPropSequential, lr: float = 1e-3, signal_lr: float = 1e-3) -> SigPropOptimizer:
    """Creates a :class:`SigPropOptimizer` whose base optimizers are Adam.

    Args:
        model: A SigProp network.
        lr: Adam's learning rate for the layers, >= 0.
        signal_lr: Adam's learning rate for the target generator, >= 0.

    Raises:
        TypeError: ``model`` is not a SigProp network.
        ValueError: A value is out of range.
    """
    check_network("model", model)
    return SigPropOptimizer(model, lr, signal_lr)


def _parameter_groups(unit: nn.Module, lr: float, signal_lr: float) -> list[dict[str, Any]]:
    """Returns the layer's parameters, and those of the target generator with their own learning rate."""
    signal = list(unit.generator.parameters()) if isinstance(unit, SigPropSignalLayer) else []
    own = [p for p in unit.parameters() if not any(p is q for q in signal)]
    pairs = ((own, lr), (signal, signal_lr))
    groups = [{"params": [p for p in params if p.requires_grad], "lr": rate} for params, rate in pairs]
    return [group for group in groups if group["params"]]
