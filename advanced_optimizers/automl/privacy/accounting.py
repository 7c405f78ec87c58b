"""What training with noise costs, by Opacus's accountants: nothing here derives a bound of its own."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from advanced_optimizers._checks import check_choice, check_integer
from advanced_optimizers.automl.privacy.checks import check_delta, check_not_negative, check_positive, check_rate

if TYPE_CHECKING:
    from opacus.accountants import IAccountant

ACCOUNTANTS = ("rdp", "prv")


@dataclass(frozen=True)
class PrivacyCost:
    r"""The noise of a training, from which its :math:`\varepsilon` follows for any :math:`\delta`.

    Keep these three numbers with a result: the :math:`\varepsilon` that is derived from them depends on the accountant.

    Attributes:
        noise_multiplier: :math:`\sigma` >= 0: the deviation of the noise divided by the largest norm of what
            one sample (or one client) adds to a sum.
        sample_rate: q in (0, 1]: the probability with which each takes part in a step.
        steps: Steps, or rounds, >= 0.
        samples: Of how many samples (or clients) it was, >= 1, if that is known; two costs are equal without it.

    Raises:
        TypeError: A value is not a number.
        ValueError: A value is out of range.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int
    samples: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_not_negative("noise_multiplier", self.noise_multiplier)
        check_rate("sample_rate", self.sample_rate)
        check_integer("steps", self.steps, low=0)
        if self.samples is not None:
            check_integer("samples", self.samples, low=1)

    def epsilon(self, delta: float = 1e-5, *, accountant: str = "rdp") -> float:
        r"""The :math:`\varepsilon` at a :math:`\delta`.

        Args:
            delta: :math:`\delta`, in (0, 1).
            accountant: ``rdp``, by Renyi divergences (Mironov, 2017), or ``prv``, by the numerical composition of
                privacy loss (Gopi et al., 2021), which is tighter and slower.

        Returns:
            Infinity without noise, 0 without steps.

        Raises:
            ModuleNotFoundError: Opacus is not installed.
            ValueError: An argument is out of range or unknown.

        Warns:
            UserWarning: ``delta`` is at least 1 / ``samples``: to publish one sample whole would satisfy it.

        Limitations:
            It holds for Poisson sampling: each sample takes part in each step independently. Fixed batches of shuffled
            data, as a ``DataLoader`` makes them, are not covered. Choosing hyperparameters by runs on the same data
            costs privacy that is not in it.
        """
        check_delta("delta", delta)
        if self.samples is not None and delta * self.samples >= 1.0:
            warnings.warn(
                f"delta = {delta:g} promises nothing of {self.samples} samples: to publish one of them whole would "
                f"satisfy it; take one far below {1 / self.samples:.1g}",
                stacklevel=2,
            )
        counted = _accountant(accountant)
        if self.steps == 0:
            return 0.0
        if self.noise_multiplier == 0.0:
            return math.inf
        counted.history = [(self.noise_multiplier, self.sample_rate, self.steps)]
        return float(counted.get_epsilon(delta))


def noise_multiplier_for(
    epsilon: float, delta: float = 1e-5, *, sample_rate: float, steps: int, accountant: str = "rdp"
) -> float:
    r"""The noise with which a training costs :math:`\varepsilon`.

    Args:
        epsilon: :math:`\varepsilon` > 0.
        delta: :math:`\delta`, in (0, 1).
        sample_rate: See :class:`PrivacyCost`.
        steps: See :class:`PrivacyCost`; >= 1.
        accountant: See :meth:`PrivacyCost.epsilon`.

    Returns:
        A noise multiplier whose :math:`\varepsilon` is at most the one asked for, and within a thousandth of it.

    Raises:
        ModuleNotFoundError: Opacus is not installed.
        TypeError: An argument has another type.
        ValueError: An argument is out of range or unknown, or no noise is enough.
    """
    check_positive("epsilon", epsilon)
    check_delta("delta", delta)
    check_rate("sample_rate", sample_rate)
    check_integer("steps", steps, low=1)
    _accountant(accountant)
    from opacus.accountants.utils import get_noise_multiplier

    with warnings.catch_warnings():
        # The search begins with more noise than the accountant's orders are made for, which does not matter.
        warnings.filterwarnings("ignore", "Optimal order is the largest alpha")
        return float(
            get_noise_multiplier(
                target_epsilon=epsilon,
                target_delta=delta,
                sample_rate=sample_rate,
                steps=steps,
                accountant=accountant,
                epsilon_tolerance=1e-3 * epsilon,
            )
        )


def _accountant(name: str) -> IAccountant:
    check_choice("accountant", name, ACCOUNTANTS)
    try:
        from opacus.accountants import create_accountant
    except ModuleNotFoundError as error:
        raise opacus_is_missing() from error
    return create_accountant(name)


def opacus_is_missing() -> ModuleNotFoundError:
    """The error that says how to install it."""
    return ModuleNotFoundError('DP-SGD and its accountants need Opacus: pip install "advanced-optimizers[dp]"')
