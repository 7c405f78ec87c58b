"""What a change of the setting costs an algorithm whose hyperparameters were tuned without it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from advanced_optimizers.experiments.evidence.contests import accuracy_of


def changes(
    frame: pd.DataFrame, task: str, algorithm: str, tunings: Sequence[str], column: str, value: float
) -> list[float]:
    """The change of test accuracy, as a fraction, for each tuning: its run in the other setting minus its own run.

    Both runs have the same seed and hyperparameters, and differ in the setting alone. A run that diverged counts as
    guessing. A tuning without the other run is left out.

    Args:
        frame: One row per run and variant; see ``tunings``.
        task: The task.
        algorithm: The algorithm.
        tunings: The variants of the runs in their own setting.
        column: The column that says what is changed, such as ``label_noise`` or ``batch_size``.
        value: Its value in the other setting.
    """
    own = frame[(frame["task"] == task) & (frame["algorithm"] == algorithm) & (frame["split"] == "test")]
    at_home = own["variant"].isin(list(tunings))
    before = {int(row["seed"]): accuracy_of(row) for _, row in own[at_home].iterrows()}
    after = {int(row["seed"]): accuracy_of(row) for _, row in own[~at_home & (own[column] == value)].iterrows()}
    return [accuracy - before[seed] for seed, accuracy in after.items() if seed in before]
