"""DP-FedAvg: averaging the models of clients so that none of them changes much of the result."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advanced_optimizers._checks import check_iterable
from advanced_optimizers.automl.privacy.checks import check_model, check_not_negative, check_positive
from advanced_optimizers.automl.privacy.mechanism import joint_norm


@torch.no_grad()
def private_average(
    global_model: nn.Module,
    client_models: Sequence[nn.Module],
    *,
    max_norm: float,
    noise_multiplier: float,
    expected_clients: float,
    generator: torch.Generator | None = None,
) -> None:
    r"""Moves a global model by the mean of its clients' clipped updates, with noise.

    .. math::
        w_{t+1} = w_t + \frac{1}{q K} \Bigl( \sum_{k \in S_t} \Delta_k
        \min\Bigl(1, \frac{C}{\lVert \Delta_k \rVert}\Bigr) + N(0, \sigma^2 C^2 I) \Bigr),
        \qquad \Delta_k = w_k - w_t

    where each of the K clients is in :math:`S_t` with probability q. A client's whole data are what is protected, so
    clients count alike, however much they have. What T rounds cost is :class:`.PrivacyCost` (:math:`\sigma`, q, T).

    Args:
        global_model: :math:`w_t`; changed in place.
        client_models: The models :math:`w_k` of the clients that were drawn; possibly none. One whose parameters are
            not finite counts as an update of zero, with a warning.
        max_norm: :math:`C` > 0, over all parameters jointly.
        noise_multiplier: :math:`\sigma` >= 0.
        expected_clients: :math:`q K` > 0, not the number that was drawn: that depends on who took part.
        generator: Draws the noise, on the device of the model; None for torch's own.

    Raises:
        TypeError: An argument has another type.
        ValueError: A number is out of range, a client's parameters differ from the global model's in name or shape, or
            the model has batch normalization.

    References:
        McMahan, Ramage, Talwar and Zhang, *Learning Differentially Private Recurrent Language Models*, ICLR 2018, arXiv
        1710.06963, algorithm 1 with the estimator of fixed denominator; recalled.

    Departures from the paper:
        Clients are not weighted by their number of samples; the paper caps such weights.

    Limitations:
        The noise per parameter does not shrink with the number of parameters: its norm is
        :math:`\sigma C \sqrt d / (q K)` where the mean update has at most :math:`C`, so that a hundred clients do not
        suffice for a network; thousands do. Buffers of the global model stay as they are. Whoever averages sees the
        clients' updates: that takes secure aggregation, or a server that is trusted.
    """
    check_model("global_model", global_model)
    check_positive("max_norm", max_norm)
    check_not_negative("noise_multiplier", noise_multiplier)
    check_positive("expected_clients", expected_clients)
    parameters = dict(global_model.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for number, client in enumerate(check_iterable("client_models", client_models, "models")):
        update = _update_of(number, client, parameters)
        norm = joint_norm(update.values())
        if not norm < float("inf"):  # NaN compares as False
            warnings.warn(f"client {number} sent parameters that are not finite: it counts as no update", stacklevel=2)
            continue
        for name, change in update.items():
            total[name] += change * (max_norm / max(max_norm, norm))
    for name, p in parameters.items():
        noise = torch.randn(p.shape, dtype=p.dtype, device=p.device, generator=generator)
        p += (total[name] + noise_multiplier * max_norm * noise) / expected_clients


def _update_of(number: int, client: nn.Module, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    if not isinstance(client, nn.Module):
        raise TypeError(f"client_models must hold torch.nn.Modules, got {client!r}")
    own = dict(client.named_parameters())
    wanted, got = ({name: tuple(p.shape) for name, p in of.items()} for of in (parameters, own))
    if wanted != got:
        differ = sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name))
        raise ValueError(
            f"client_models must have the parameters of the global model, got client {number} that differs in {differ}"
        )
    return {name: own[name].to(p.device) - p for name, p in parameters.items()}
