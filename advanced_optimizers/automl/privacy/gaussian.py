r"""The guarantee of Gaussian noise, exactly, and the classical bound.

A release of :math:`f(D) + N(0, \sigma^2 I)`, where one sample changes :math:`f` by at most :math:`\Delta` in norm, is
:math:`(\varepsilon, \delta)`-private exactly for :math:`\delta \ge \delta(\varepsilon, s)` with
:math:`s = \sigma / \Delta`:

.. math::
    \delta(\varepsilon, s) = \Phi\Bigl(\frac{1}{2s} - \varepsilon s\Bigr)
    - e^\varepsilon \Phi\Bigl(-\frac{1}{2s} - \varepsilon s\Bigr)

References:
    Balle and Wang, *Improving the Gaussian Mechanism for Differential Privacy*, ICML 2018, arXiv 1805.06530, theorem 8;
    Dwork and Roth, *The Algorithmic Foundations of Differential Privacy*, 2014, theorem A.1, for the classical bound.
    Both are recalled, not read again; tests compare the formula with an integral and with ``dp-accounting``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from advanced_optimizers._checks import check_choice
from advanced_optimizers.automl.privacy.checks import check_delta, check_not_negative, check_positive

MECHANISMS = ("exact", "classical")
# Bisection halves its bracket this often, which leaves nothing that a double resolves.
_HALVINGS = 200


def gaussian_delta(epsilon: float, noise_multiplier: float) -> float:
    r"""The smallest :math:`\delta` of a release with Gaussian noise, :math:`\delta(\varepsilon, s)` above.

    Args:
        epsilon: :math:`\varepsilon` >= 0.
        noise_multiplier: :math:`s` > 0, the noise's deviation divided by the sensitivity.

    Returns:
        A probability; 0 where it is below the smallest double.

    Raises:
        TypeError: An argument is not a number.
        ValueError: An argument is out of range or not finite.

    Example:
        >>> from advanced_optimizers.automl import gaussian_delta
        >>> f"{gaussian_delta(1.0, 4.845):.1e}"  # the noise of the classical bound for a delta of 1e-5
        '4.1e-08'
    """
    check_not_negative("epsilon", epsilon)
    check_positive("noise_multiplier", noise_multiplier)
    return _delta(epsilon, noise_multiplier)


def gaussian_noise(epsilon: float, delta: float, sensitivity: float = 1.0, *, mechanism: str = "exact") -> float:
    r"""The deviation of the noise that makes one release :math:`(\varepsilon, \delta)`-private.

    Args:
        epsilon: :math:`\varepsilon` > 0.
        delta: :math:`\delta`, in (0, 1).
        sensitivity: :math:`\Delta` > 0: by how much, in norm, adding or removing one sample changes what is released.
        mechanism: ``exact`` for the smallest noise, by bisection of :math:`\delta(\varepsilon, s) = \delta`;
            ``classical`` for :math:`\sigma = \Delta \sqrt{2 \ln(1.25 / \delta)} / \varepsilon`, which is proved for
            :math:`\varepsilon < 1` only, is larger there, and too small above about 8.

    Returns:
        :math:`\sigma`, per value that is released.

    Raises:
        TypeError: An argument has another type.
        ValueError: A number is out of range, or ``epsilon`` >= 1 with the classical mechanism.

    Example:
        >>> from advanced_optimizers.automl import gaussian_noise
        >>> round(gaussian_noise(1.0, 1e-5), 3)
        3.731
    """
    check_positive("epsilon", epsilon)
    check_delta("delta", delta)
    check_positive("sensitivity", sensitivity)
    if check_choice("mechanism", mechanism, MECHANISMS) == "classical":
        if epsilon >= 1.0:
            raise ValueError(
                f"epsilon must be below 1 with mechanism='classical', got {epsilon}: its formula is proved there only, "
                "and gives too little noise from about 8 on: use mechanism='exact'"
            )
        return sensitivity * math.sqrt(2.0 * math.log(1.25 / delta)) / epsilon
    # Rounded up: bisection returns the end at which the guarantee holds.
    return sensitivity * _boundary(lambda s: _delta(epsilon, s) <= delta)


def gaussian_epsilon(noise_multiplier: float, delta: float, releases: int = 1) -> float:
    r"""The smallest :math:`\varepsilon` of releases with Gaussian noise, each of which sees all samples.

    The composition of :math:`T` of them is exactly one release with :math:`s / \sqrt T`.

    Args:
        noise_multiplier: :math:`s` > 0 of each release.
        delta: :math:`\delta`, in (0, 1).
        releases: :math:`T` >= 1.

    Returns:
        :math:`\varepsilon` >= 0.

    Raises:
        TypeError: An argument is not a number.
        ValueError: An argument is out of range.

    Limitations:
        Releases that see a random part of the samples, as in DP-SGD, cost less: see :class:`.PrivacyCost`.
    """
    check_positive("noise_multiplier", noise_multiplier)
    check_delta("delta", delta)
    check_positive("releases", releases)
    return epsilon_of(noise_multiplier / math.sqrt(releases), delta)


def epsilon_of(s: float, delta: float) -> float:
    """The smallest epsilon of one release with this noise multiplier."""
    return 0.0 if _delta(0.0, s) <= delta else _boundary(lambda epsilon: _delta(epsilon, s) <= delta)


def _delta(epsilon: float, s: float) -> float:
    first, second = (_log_normal_cdf(sign / (2.0 * s) - epsilon * s) for sign in (1.0, -1.0))
    # The second term divided by the first, in logarithms: e^epsilon overflows, and the two nearly cancel.
    return math.exp(first) * -math.expm1(min(0.0, epsilon + second - first))


def _log_normal_cdf(x: float) -> float:
    return torch.special.log_ndtr(torch.tensor(x, dtype=torch.float64)).item()


def _boundary(holds: Callable[[float], bool]) -> float:
    """The least positive number from which on a condition holds."""
    low, high = 0.0, 1.0
    while not holds(high):
        low, high = high, 2.0 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
