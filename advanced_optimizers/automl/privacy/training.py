"""DP-SGD: training in which no step shows more of a sample than noise hides, on Opacus."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from advanced_optimizers._checks import check_integer
from advanced_optimizers.automl.privacy.accounting import PrivacyCost, opacus_is_missing
from advanced_optimizers.automl.privacy.checks import check_model, check_not_negative, check_positive
from advanced_optimizers.automl.privacy.clipping import check_lengths

# What Opacus leaves on parameters.
_LEFT_BEHIND = ("grad_sample", "summed_grad", "_norm_sample", "_forward_counter")


def train_private(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
    *,
    noise_multiplier: float,
    max_grad_norm: float = 1.0,
    batch_size: int = 600,
    steps: int = 500,
    criterion: nn.Module | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> PrivacyCost:
    r"""Trains a model so that no sample changes much of what comes out.

    .. math::
        g_t = \frac{1}{q n} \Bigl( \sum_{i \in B_t} \nabla \ell_i
        \min\Bigl(1, \frac{C}{\lVert \nabla \ell_i \rVert}\Bigr) + N(0, \sigma^2 C^2 I) \Bigr)

    where each of the n samples is in :math:`B_t` with probability q. The optimizer steps with :math:`g_t`. Per-sample
    gradients are clipped in Opacus's ghost mode, which computes their norms without the gradients themselves: on a CPU,
    it took a twentieth of the time of the default mode, for the same weights.

    Args:
        model: What is trained, in place. It may be on any device.
        optimizer: Any torch optimizer of exactly the model's parameters.
        inputs: Samples, (n, ...), on the model's device.
        targets: (n, ...), what ``criterion`` compares outputs with.
        noise_multiplier: :math:`\sigma` >= 0, see :func:`.noise_multiplier_for`. With 0 there is clipping, but no
            privacy.
        max_grad_norm: :math:`C` > 0, over all parameters jointly.
        batch_size: Samples that a step takes on average, in [1, n]. The rate q is 1 / (n / ``batch_size``, rounded up).
        steps: Steps, >= 1.
        criterion: The loss, a module with ``reduction="mean"``; cross-entropy by default.
        generator: Draws samples and noise, on the CPU; None for one that is seeded from torch's own. Whoever knows the
            seed can subtract the noise.
        on_step: Called after each step with its number, from 1 on, and the mean loss of its batch (NaN if it was
            empty).

    Returns:
        :math:`\sigma`, q and the steps, from which :math:`\varepsilon` follows.

    Raises:
        ModuleNotFoundError: Opacus is not installed.
        TypeError: An argument has another type.
        ValueError: A number is out of range; there are no samples; the optimizer has other parameters; or per-sample
            gradients of the model mean nothing (batch normalization) or come out wrong (channels-last weights).
        FloatingPointError: The loss of a step is not finite.

    Example:
        >>> import torch
        >>> from advanced_optimizers.automl import noise_multiplier_for, train_private
        >>> x = torch.randn(400, 2)
        >>> y = (x[:, 0] > 0).long()
        >>> model = torch.nn.Linear(2, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        >>> sigma = noise_multiplier_for(3.0, 1e-5, sample_rate=0.1, steps=50)
        >>> cost = train_private(model, optimizer, x, y, noise_multiplier=sigma, batch_size=40, steps=50)
        >>> round(cost.epsilon(1e-5), 1)
        3.0

    References:
        Abadi et al., *Deep Learning with Differential Privacy*, CCS 2016, arXiv 1607.00133, algorithm 1; Yousefpour et
        al., *Opacus: User-Friendly Differential Privacy Library in PyTorch*, 2021, arXiv 2109.12298.

    Departures from the paper:
        The sum is divided by the expected batch size, as Opacus does, and the clip factor is
        :math:`C / (\lVert g \rVert + 10^{-6})`, at most 1.

    Limitations:
        All samples are in memory. Layers that Opacus does not know, and parameters that are used twice, raise its own
        errors. Opacus 1.6 measures wrong norms of convolutions whose weights are stored channels-last, so such models
        are refused. The noise comes from an ordinary generator, not from a cryptographic one.
    """
    check_model("model", model)
    check_layout(model)
    check_lengths(inputs, targets)
    check_not_negative("noise_multiplier", noise_multiplier)
    check_positive("max_grad_norm", max_grad_norm)
    check_integer("steps", steps, low=1)
    if check_integer("batch_size", batch_size, low=1) > len(inputs):
        raise ValueError(f"batch_size must be at most the number of samples, {len(inputs)}, got {batch_size}")
    check_same_parameters(model, optimizer)
    criterion = nn.CrossEntropyLoss() if criterion is None else criterion
    if getattr(criterion, "reduction", None) != "mean":
        raise ValueError(f"criterion must be a loss module with reduction='mean', got {criterion!r}")

    parts = _Sampling(inputs, targets, batch_size, generator or _seeded(torch.Generator(), None))
    with _private(model, optimizer, criterion, parts, noise_multiplier, max_grad_norm) as (wrapped, private, loss_of):
        for step in range(1, steps + 1):
            x, y = parts.draw()
            private.zero_grad()
            loss = loss_of(wrapped(x), y)
            mean = loss.item()
            if len(x) and not math.isfinite(mean):
                raise FloatingPointError(
                    f"the loss of step {step} is {mean}: a sample that is not finite, or a learning rate too high"
                )
            loss.backward()
            private.step()
            if on_step is not None:
                on_step(step, mean)
    return PrivacyCost(float(noise_multiplier), parts.rate, steps, len(inputs))


class _Sampling:
    """Batches in which each sample is with the same probability, on the device of the samples."""

    def __init__(self, inputs: Tensor, targets: Tensor, batch_size: int, generator: torch.Generator) -> None:
        self.inputs, self.targets, self.generator = inputs.contiguous(), targets, generator
        # Opacus asks for a loader; slicing the tensors by the indices that it draws takes a fraction of the time.
        self.loader = DataLoader(TensorDataset(torch.arange(len(inputs))), batch_size=batch_size, generator=generator)
        self.rate = 1.0 / len(self.loader)
        self.drawn: Iterator[list[int]] = iter(())

    def draw(self) -> tuple[Tensor, Tensor]:
        """A batch; it may be empty."""
        indices = next(self.drawn, None)
        if indices is None:
            self.drawn = iter(cast("Iterable[list[int]]", self.loader.batch_sampler))
            indices = next(self.drawn)
        chosen = torch.tensor(indices, dtype=torch.int64, device=self.inputs.device)
        return self.inputs[chosen], self.targets[chosen.to(self.targets.device)]


@contextmanager
def _private(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    criterion: nn.Module,
    parts: _Sampling,
    noise_multiplier: float,
    max_grad_norm: float,
) -> Iterator[tuple[nn.Module, torch.optim.Optimizer, Callable[[Tensor, Tensor], Any]]]:
    """Opacus's model, optimizer and loss; afterwards, nothing of it is left on the model."""
    try:
        from opacus import PrivacyEngine
    except ModuleNotFoundError as error:
        raise opacus_is_missing() from error
    device, training = next(model.parameters()).device, model.training
    model.train()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Secure RNG turned off")
        warnings.filterwarnings("ignore", "Full backward hook")
        wrapped, private, loss_of, parts.loader = PrivacyEngine(accountant="rdp").make_private(
            module=model,
            optimizer=optimizer,
            criterion=criterion,
            data_loader=parts.loader,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            grad_sample_mode="ghost",
            noise_generator=_seeded(torch.Generator(device), parts.generator),
        )
        try:
            yield wrapped, private, loss_of
        finally:
            wrapped.to_standard_module()
            for p in model.parameters():
                for name in _LEFT_BEHIND:
                    if hasattr(p, name):
                        delattr(p, name)
            model.train(training)


def _seeded(generator: torch.Generator, source: torch.Generator | None) -> torch.Generator:
    return generator.manual_seed(int(torch.randint(2**62, (), generator=source)))


def check_layout(model: nn.Module) -> None:
    """Refuses weights that are not stored in their usual order."""
    for name, p in model.named_parameters():
        if not p.is_contiguous():
            raise ValueError(
                f"model must hold contiguous parameters, got {name} with strides {p.stride()}: Opacus clips by wrong "
                "norms where weights are channels-last: call model.to(memory_format=torch.contiguous_format)"
            )


def check_same_parameters(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Refuses an optimizer of other parameters than the model's trained ones: noise would not cover them."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {optimizer!r}")
    own = {id(p) for p in model.parameters() if p.requires_grad}
    stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if own != stepped:
        raise ValueError(
            f"optimizer must have exactly the model's {len(own)} trained parameters, got {len(stepped & own)} of them "
            f"and {len(stepped - own)} others"
        )
