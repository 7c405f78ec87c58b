"""Each claim of the papers and of the coursework, and the rule that decides it.

A rule is written before the runs that decide it, and reads only recorded runs or, where the claim is about time,
memory or structure, a committed measurement. ``evidence`` says what the four verdicts mean.
"""

from __future__ import annotations

import pandas as pd

from advanced_optimizers.experiments.evidence.claim import Claim
from advanced_optimizers.experiments.evidence.comparisons import Measurements, Verdict
from advanced_optimizers.experiments.studies import fer as claims_fer
from advanced_optimizers.experiments.studies import forward_signal as claims_sigprop
from advanced_optimizers.experiments.studies import gradient_correction as claims_correction
from advanced_optimizers.experiments.studies import localized_learning as claims_localized
from advanced_optimizers.experiments.studies import zero_shot_transfer as claims_mutransfer

# The longest an epoch may take, relative to the baseline's, for a study's claim about time to hold.
TIME_LIMITS = {
    "fer": claims_fer.NEGLIGIBLE_RATIO,
    "gradient-correction": claims_correction.COURSEWORK_RATIO,
    "sigprop": claims_sigprop.TIME_LIMIT,
    "localized": claims_localized.PAPER_RATIO,
}

CLAIMS: dict[str, Claim] = {
    claim.key: claim
    for claim in (
        *claims_fer.CLAIMS,
        *claims_correction.CLAIMS,
        *claims_sigprop.CLAIMS,
        *claims_localized.CLAIMS,
        *claims_mutransfer.CLAIMS,
    )
}


def decide_claims(study: str, frame: pd.DataFrame, measurements: Measurements | None = None) -> dict[str, Verdict]:
    """Applies the rules of a study's claims to its runs; the verdicts by the claims' keys."""
    return {key: claim.decide(frame, measurements) for key, claim in CLAIMS.items() if claim.study == study}
