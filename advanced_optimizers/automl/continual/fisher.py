r"""The diagonal of the Fisher information, from the gradient of each sample by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from advanced_optimizers.automl.continual.checks import check_inputs, check_labels, check_logits

ESTIMATORS = ("exact", "sampled", "empirical")
# Samples whose gradients are computed at once; each needs as much memory as the model.
_CHUNK = 32

Importance = Mapping[str, Tensor]
Select = Callable[[Tensor], Tensor]


def diagonal_fisher(
    model: nn.Module,
    dataloader: Iterable[Any],
    estimator: str = "exact",
    *,
    max_samples: int | None = None,
    logits: Select | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    r"""The mean over samples of the squared gradient of each sample's log-probability.

    .. math::
        F_i = \frac1N \sum_n \sum_y q_n(y) \Bigl(\frac{\partial \log p(y \mid x_n, \theta)}{\partial \theta_i}\Bigr)^2

    with :math:`q_n(y)` the model's own :math:`p(y \mid x_n)` (``exact``), one label drawn from it (``sampled``), or the
    label of the data (``empirical``). See :meth:`.ElasticWeightConsolidation.compute_fisher_information` for the
    arguments and errors.

    Returns:
        By name, :math:`F` of each parameter that requires a gradient, in its shape; without a graph.
    """
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    device = next(iter(parameters.values())).device
    select = logits or _all_of_them

    def log_probabilities(weights: Importance, x: Tensor) -> Tensor:
        output = select(functional_call(model, dict(weights), (x[None],)))
        return torch.log_softmax(check_logits(output), dim=-1)[0]

    def score(weights: Importance, x: Tensor, y: Tensor) -> Tensor:
        return log_probabilities(weights, x).gather(0, y[None])[0]

    total = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}  # many small squares
    count = 0
    with evaluating(model):
        for inputs, *labels in _chunks(dataloader, max_samples, labeled=estimator == "empirical"):
            x = inputs.to(device)
            q = vmap(log_probabilities, (None, 0))(parameters, x).exp()
            if not bool(q.isfinite().all()):
                bad = count + int((~q.isfinite()).nonzero()[0, 0])
                raise RuntimeError(f"the model's output is not finite for sample {bad} of dataloader: it has diverged")
            for y, share in _weighted_labels(estimator, q, labels, generator):
                gradients = vmap(grad(score), (None, 0, 0))(parameters, x, y)
                for name, g in gradients.items():
                    total[name] += (share @ g.reshape(len(g), -1).square()).view_as(total[name])
            count += len(x)
    if not count:
        raise ValueError("dataloader must hold at least one sample, got none")
    for name, value in total.items():
        if not bool(value.isfinite().all()):
            raise RuntimeError(
                f"the gradient of {name!r} is not finite for some of the {count} samples: the model has diverged, or "
                "an input is not finite"
            )
    return {name: (value / count).to(parameters[name].dtype) for name, value in total.items()}


def _all_of_them(output: Tensor) -> Tensor:
    return output


def _weighted_labels(
    estimator: str, q: Tensor, labels: list[Tensor], generator: torch.Generator | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Labels (N,) whose gradients are squared, and the weight of each square, (N,)."""
    n, classes = q.shape
    if estimator == "exact":
        for label in range(classes):
            yield torch.full((n,), label, device=q.device), q[:, label]
        return
    if estimator == "empirical":
        drawn = check_labels(labels[0], classes)
    else:
        on = q if generator is None else q.to(generator.device)
        drawn = torch.multinomial(on, 1, generator=generator)[:, 0]
    yield drawn.to(q.device), torch.ones_like(q[:, 0])


def _chunks(dataloader: Iterable[Any], max_samples: int | None, *, labeled: bool) -> Iterator[list[Tensor]]:
    """Inputs, and labels if asked for, the same number at a time whatever the sizes of the batches that hold them."""
    held: list[Tensor] = []
    left = max_samples
    for batch in dataloader:
        new = [part[:left] for part in check_inputs(batch, labeled=labeled)]
        left = None if left is None else left - len(new[0])
        held = [torch.cat(parts) for parts in zip(held, new, strict=True)] if held else new
        while len(held[0]) >= _CHUNK:
            yield [part[:_CHUNK] for part in held]
            held = [part[_CHUNK:] for part in held]
        if left == 0:
            break
    if held and len(held[0]):
        yield held


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode, and afterwards in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
