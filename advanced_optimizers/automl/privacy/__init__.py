"""Differential privacy: noise with a guarantee, training with it, and what an attacker learns without it.

- :class:`DifferentialPrivacy`: the Gaussian mechanism for single releases, with an account of what they cost together.
- :func:`gaussian_delta`, :func:`gaussian_epsilon`, :func:`gaussian_noise`: the exact guarantee of Gaussian noise.
- :func:`per_sample_gradients`, :func:`clip_per_sample`: clipping that bounds what one sample can change.
- :func:`train_private`, :func:`noise_multiplier_for`, :class:`PrivacyCost`: DP-SGD on Opacus, and its account.
- :func:`private_average`: DP-FedAvg, which protects whole clients.
- :func:`invert_gradient`, :func:`membership_auc`: two attacks.
"""

from advanced_optimizers.automl.privacy.accounting import PrivacyCost, noise_multiplier_for
from advanced_optimizers.automl.privacy.attacks import invert_gradient, membership_auc
from advanced_optimizers.automl.privacy.clients import private_average
from advanced_optimizers.automl.privacy.clipping import clip_per_sample, per_sample_gradients
from advanced_optimizers.automl.privacy.gaussian import gaussian_delta, gaussian_epsilon, gaussian_noise
from advanced_optimizers.automl.privacy.mechanism import DifferentialPrivacy
from advanced_optimizers.automl.privacy.training import train_private

__all__ = [
    "DifferentialPrivacy",
    "PrivacyCost",
    "clip_per_sample",
    "gaussian_delta",
    "gaussian_epsilon",
    "gaussian_noise",
    "invert_gradient",
    "membership_auc",
    "noise_multiplier_for",
    "per_sample_gradients",
    "private_average",
    "train_private",
]
