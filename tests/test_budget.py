"""The tables of what was searched, and of how long the tuning trials were."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from advanced_optimizers.experiments.data.datasets import VALIDATION_FRACTION
from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.report.blocks.budget import search_spaces_table, trials_table
from advanced_optimizers.experiments.studies.study import Study
from advanced_optimizers.experiments.studies.task import Task
from tests.report_project import STUDY

TASK = Task(dataset="mnist", model="mlp", epochs=10, tuning_epochs=3)


def searched(*studies: Study) -> pd.Series:
    return search_spaces_table(studies, labels=labels()).set_index("Algorithms")["Searched"]


def lengths(*studies: Study) -> pd.DataFrame:
    return trials_table(studies, labels=labels())


def test_each_search_space_names_its_ranges_and_the_algorithms_that_share_it() -> None:
    table = searched(replace(STUDY, algorithms=("sgd", "fer-sgd", "localized-frozen")), STUDY)
    assert table["SGD; Freezing, static (control)"] == "`lr` 0.02 to 0.8 (log)"
    assert table["Gradient consistency over SGD"] == (
        "`lr` 0.02 to 0.8 (log); `fer_weight` 0.03 to 1 (log); `memory_size` 10 to 1000 (log)"
    )
    assert "`gamma` 0.1 to 0.9" in table["Flipping error reduction over SGD"]  # not a logarithmic range
    assert len(table) == 3


def test_what_takes_over_another_ones_choice_searches_nothing() -> None:
    taking_over = replace(STUDY, algorithms=("sgd", "fer-sgd"), tuned_as={"fer-sgd": "sgd"})
    assert searched(taking_over).index.tolist() == ["SGD"]
    assert lengths(taking_over)["Algorithms"].tolist() == ["all"]


def test_trials_of_one_length_are_those_of_all_algorithms() -> None:
    (row,) = lengths(STUDY, STUDY).to_dict("records")  # a second study with the same protocol adds nothing
    assert row == {
        "Task": "MNIST, MLP",
        "Algorithms": "all",
        "Trials": 2,
        "Trial (epochs)": 3,
        "Its share of the images": "100 %",
        "Run (epochs)": 10,
        "Steps of a run over those of a trial": f"{10 / (3 * (1 - VALIDATION_FRACTION)):.1f}",
    }


def test_a_protocol_that_differs_has_a_row_of_its_own() -> None:
    longer = replace(STUDY, left_out=frozenset(), protocols={("mnist-mlp", "flipping-sgd"): TASK.longer(2.65)})
    table = lengths(longer)
    assert table["Algorithms"].tolist() == ["all others", "Flipping error reduction over SGD"]
    assert table["Trial (epochs)"].tolist() == [3, 8]
    assert table["Run (epochs)"].tolist() == [10, 27]


@pytest.mark.parametrize(("fraction", "ratio"), [(1.0, "3.7"), (0.3, "12.3")])
def test_trials_on_a_part_of_the_images_are_shorter(fraction: float, ratio: str) -> None:
    study = replace(STUDY, tasks=(replace(TASK, tuning_fraction=fraction),))
    assert lengths(study)["Steps of a run over those of a trial"].tolist() == [ratio]
