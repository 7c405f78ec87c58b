"""The Gaussian mechanism for gradients that are released one by one, and what the releases cost together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeVar, cast

import torch
from torch import Tensor

from advanced_optimizers._checks import check_choice
from advanced_optimizers.automl.privacy.checks import check_delta, check_gradients, check_positive
from advanced_optimizers.automl.privacy.gaussian import MECHANISMS, epsilon_of, gaussian_noise

# One tensor, or a list of the gradients of a model.
Gradients = TypeVar("Gradients", Tensor, Iterable[Tensor])


class DifferentialPrivacy:
    r"""Adds Gaussian noise to what is released, and keeps account of it.

    .. math::
        \tilde g = g + N(0, \sigma^2 I), \qquad
        \sigma = \Delta \cdot \min \{ s : \delta(\varepsilon, s) \le \delta \}

    Each call of :meth:`add_noise` is :math:`(\varepsilon, \delta)`-private by itself. Calls on the same data add up:
    :meth:`spent` returns the :math:`\varepsilon` of all of them together, which is exact. Training takes many calls, so
    use :func:`.train_private` for it, where the noise is set for all steps at once.

    Args:
        epsilon: :math:`\varepsilon` of one call, > 0.
        delta: :math:`\delta` of one call, in (0, 1). Below 1 / (number of samples), or it permits to publish a sample.
        mechanism: ``exact``, or ``classical`` for the well-known formula, which needs ``epsilon`` < 1; see
            :func:`.gaussian_noise`.
        generator: Draws the noise, on the device of the gradients; None for torch's own.

    Raises:
        TypeError: An argument has another type.
        ValueError: A number is out of range, or ``epsilon`` >= 1 with ``mechanism="classical"``.

    Example:
        >>> import torch
        >>> from advanced_optimizers.automl import DifferentialPrivacy
        >>> privacy = DifferentialPrivacy(epsilon=1.0, delta=1e-5)
        >>> gradient = privacy.clip_gradients(torch.randn(5), max_norm=1.0)
        >>> for _ in range(10):
        ...     noisy = privacy.add_noise(gradient, sensitivity=1.0)
        >>> round(privacy.spent(), 2)  # not 1, and less than 10
        3.62

    References:
        Balle and Wang, *Improving the Gaussian Mechanism for Differential Privacy*, ICML 2018, arXiv 1805.06530.

    Limitations:
        The guarantee is as good as ``sensitivity``: nothing here can check it. Clipping a gradient that is the mean of
        a batch bounds how large it is, but a sample can change it by twice that; bound each sample's own gradient by
        :func:`.clip_per_sample`. The noise is drawn by an ordinary generator and rounded to floating point, which an
        attacker who sees all digits can exploit (Mironov, 2012). :meth:`spent` counts the calls of this object, and
        supposes that each sees all samples.
    """

    def __init__(
        self,
        epsilon: float = 1.0,
        delta: float = 1e-5,
        *,
        mechanism: str = "exact",
        generator: torch.Generator | None = None,
    ) -> None:
        self.epsilon = check_positive("epsilon", epsilon)
        self.delta = check_delta("delta", delta)
        self.mechanism = check_choice("mechanism", mechanism, MECHANISMS)
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(f"generator must be a torch.Generator, or None, got {generator!r}")
        self.generator = generator
        self.noise_multiplier = gaussian_noise(self.epsilon, self.delta, mechanism=mechanism)
        self.releases = 0

    def add_noise(self, gradients: Gradients, sensitivity: float = 1.0) -> Gradients:
        r"""Releases gradients with noise, and counts the release.

        Args:
            gradients: A tensor, or several that are released together.
            sensitivity: :math:`\Delta` > 0: by how much adding or removing one sample can change them, in the norm over
                all of them jointly.

        Returns:
            New tensors in the form, dtype and device of ``gradients``.

        Raises:
            TypeError: ``gradients`` are not tensors of floating-point numbers.
            ValueError: A value is not finite, or ``sensitivity`` is not a finite number above 0.
        """
        tensors = check_gradients("gradients", gradients)
        deviation = self.noise_multiplier * check_positive("sensitivity", sensitivity)
        noisy = [self._with_noise(tensor, deviation) for tensor in tensors]
        self.releases += 1
        return _like(gradients, noisy)

    def clip_gradients(self, gradients: Gradients, max_norm: float = 1.0) -> Gradients:
        r"""Shortens gradients to a norm, :math:`g \min(1, C / \lVert g \rVert)`.

        Args:
            gradients: A tensor, or several whose joint norm is bounded: the gradients of **one** sample. For a batch,
                see :func:`.clip_per_sample`.
            max_norm: :math:`C` > 0.

        Returns:
            New tensors in the form, dtype and device of ``gradients``. Gradients of zero stay zero.

        Raises:
            TypeError: ``gradients`` are not tensors of floating-point numbers.
            ValueError: A value is not finite, or ``max_norm`` is not a finite number above 0.
        """
        tensors = check_gradients("gradients", gradients)
        factor = check_positive("max_norm", max_norm) / max(max_norm, joint_norm(tensors))
        return _like(gradients, [tensor * factor for tensor in tensors])

    def spent(self) -> float:
        r""":math:`\varepsilon` of all calls of :meth:`add_noise` together, at the :math:`\delta` of one."""
        return epsilon_of(self.noise_multiplier / math.sqrt(self.releases), self.delta) if self.releases else 0.0

    def _with_noise(self, tensor: Tensor, deviation: float) -> Tensor:
        # Half precision is too coarse for the noise, so the sum is rounded, and not each of its parts.
        dtype = torch.promote_types(tensor.dtype, torch.float32)
        noise = torch.randn(tensor.shape, dtype=dtype, device=tensor.device, generator=self.generator)
        return (tensor.to(dtype) + deviation * noise).to(tensor.dtype)


def joint_norm(tensors: Iterable[Tensor]) -> float:
    """The Euclidean norm of all values of all tensors."""
    return math.hypot(*(tensor.double().norm().item() for tensor in tensors))


def _like(given: Gradients, tensors: list[Tensor]) -> Gradients:
    """A tensor if one was given, otherwise a list."""
    return cast(Gradients, tensors[0] if isinstance(given, Tensor) else tensors)
