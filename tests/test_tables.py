from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.records.frames import records_frame
from advanced_optimizers.experiments.report.tables import table_files, tables
from advanced_optimizers.experiments.studies.registry import get_study
from tests.synthetic_runs import GAINS, make_config, make_measurements, make_record, make_records

RECORDS = make_records()
FRAME = records_frame(RECORDS)
MEASUREMENTS = make_measurements({("fer-sgd", "sgd"): 1.02, ("fer-adam", "adam"): 1.08})
CLAIMED = {"mnist-mlp": {"sgd": 0.952, "adam": 0.968, "fer-adam": 0.971}, "cifar10-jpeg-convnet": {"sgd": 0.684}}


class TestTables:
    def test_comparison_by_hand(self) -> None:
        values = (0.95, 0.96, 0.97, 0.96, 0.95)
        records = [make_record(make_config("mnist-mlp", "sgd", seed), value) for seed, value in enumerate(values)]
        table = tables.comparison_table(records_frame(records), labels=labels())
        # mean 0.958, std 0.0083666, half-width 2.776445 * 0.0083666 / sqrt(5) = 0.0103886
        assert table.columns.tolist() == ["Algorithm", "MNIST, MLP, clean labels (%)"]
        assert table.iloc[0].tolist() == ["SGD", "95.80 ± 1.04"]
        assert table.attrs["note"] == "Mean ± half-width of the 95 % interval over the seeds, n = 5."

    def test_only_a_cell_whose_n_is_not_the_notes_says_it(self) -> None:
        fewer = FRAME[(FRAME["algorithm"] != "adam") | (FRAME["seed"] < 3)]
        table = tables.comparison_table(fewer, labels=labels()).set_index("Algorithm")
        assert table.loc["Adam"].str.endswith(" (n = 3)").all()
        assert not table.drop(index="Adam").stack().str.contains("n =").any()
        assert table.attrs["note"].endswith("n = 5.")

    def test_one_seed_has_no_interval(self) -> None:
        table = tables.comparison_table(FRAME[FRAME["seed"] == 0], labels=labels())
        assert not table.stack().str.contains("±").any()
        assert table.attrs["note"] == "One seed: there is no interval."

    def test_only_a_clear_best_is_bold(self) -> None:
        column = "MNIST, MLP, clean labels (%)"
        table = tables.comparison_table(FRAME, labels=labels()).set_index("Algorithm")[column]
        assert GAINS["flipping-adam"] > GAINS["flipping-sgd"]
        assert not table.str.contains(r"\*\*").any()  # which of the two best is better is undecided
        clear = FRAME[FRAME["algorithm"] != "flipping-sgd"]
        table = tables.comparison_table(clear, labels=labels()).set_index("Algorithm")[column]
        assert table[table.str.contains(r"\*\*")].index.tolist() == [labels()["flipping-adam"]]
        few = clear[clear["seed"] < 4]
        assert "**" not in table_files.to_markdown(tables.comparison_table(few, labels=labels()))

    def test_the_best_is_the_lowest_where_lower_is_better(self) -> None:
        some = FRAME[FRAME["algorithm"].isin(["sgd", "flipping-sgd"])]
        table = tables.comparison_table(some, "relative_flipping_error", labels=labels()).set_index("Algorithm")
        assert table.loc[labels()["flipping-sgd"]].str.contains(r"\*\*").all()

    def test_claims_of_the_coursework_stand_beside_the_clean_column(self) -> None:
        table = tables.comparison_table(FRAME, labels=labels(), claimed=CLAIMED).set_index("Algorithm")
        column = table["MNIST, MLP, coursework's claim (%)"]
        names = ["SGD", "Adam", labels()["fer-adam"], labels()["fer-sgd"]]
        assert column[names].tolist() == [
            "95.2",
            "96.8",
            "97.1",
            "-",
        ]
        assert sum("claim" in name for name in table.columns) == 2

    def test_diverged_and_missing_runs_are_said(self) -> None:
        records = make_records(tasks=["mnist-mlp"], algorithms=["sgd", "adam"], label_noises=[0.0])
        records = [replace(records[0], status="diverged"), *records[1:]]
        frame = pd.concat([records_frame(records), FRAME[FRAME["task"] != "mnist-mlp"]])
        column = tables.comparison_table(frame, labels=labels()).set_index("Algorithm")["MNIST, MLP, clean labels (%)"]
        assert column["SGD"].endswith("(n = 4, 1 diverged)")
        assert column[labels()["fer-sgd"]] == "-"

    def test_rows_follow_the_labels(self) -> None:
        shuffled = FRAME.sample(frac=1, random_state=0)
        present = set(FRAME["algorithm"])
        assert tables.comparison_table(shuffled, labels=labels())["Algorithm"].tolist() == [
            words for name, words in labels().items() if name in present
        ]

    def test_summary_holds_the_numbers(self) -> None:
        table = tables.summary_table(FRAME, ["test_accuracy", "relative_flipping_error"], labels=labels())
        assert len(table) == 2 * 2 * 6 * 2
        row = table[(table["task"] == "mnist-mlp") & (table["label_noise"] == 0.2) & (table["algorithm"] == "adam")]
        row = row.set_index("metric").loc["test_accuracy"]
        runs = FRAME[(FRAME.task == "mnist-mlp") & (FRAME.label_noise == 0.2) & (FRAME.algorithm == "adam")]
        assert row["mean"] == pytest.approx(runs["test_accuracy"].mean())
        assert row["std"] == pytest.approx(runs["test_accuracy"].std())
        single = tables.summary_table(FRAME[FRAME["seed"] == 0], labels=labels())
        assert single["std"].isna().all()

    def test_hyperparameters_are_one_set(self) -> None:
        table = tables.hyperparameters_table(FRAME, labels=labels()).set_index(["Task", "Algorithm"])
        chosen = table.loc[("MNIST, MLP", labels()["fer-sgd"]), "Hyperparameters"]
        assert chosen == "lr = 0.1, fer_weight = 0.3, memory_size = 100"
        two = FRAME.assign(hp_lr=FRAME["seed"].astype(float))
        with pytest.raises(ValueError, match="one set of hyperparameters for sgd on mnist-mlp, got 5"):
            tables.hyperparameters_table(two, labels=labels())

    def test_timing_and_overhead(self) -> None:
        timing = tables.timing_table(FRAME, labels=labels())
        assert len(timing) == 2 * 6
        assert set(timing["Peak memory (MiB, median)"]) == {"512"}
        assert set(timing["n"]) == {10}
        ratios = tables.overhead_table(MEASUREMENTS, labels=labels())
        assert ratios["Ratio, median [interval]"][0].startswith("1.020")
        assert ratios["Base (s an epoch, median)"][0] == "2.00"
        assert ratios["Algorithm (s an epoch, base times ratio)"][0] == "2.04"
        assert "technical repeats on one machine" in ratios.attrs["note"]
        assert "96.1 % for n = 9" in ratios.attrs["note"]

    def test_the_printed_columns_of_an_overhead_give_the_printed_ratio(self) -> None:
        pairs = [[1.476, 1.020], [1.483, 1.010], [1.450, 1.056], [1.484, 1.002], [1.455, 1.030], [1.476, 1.013]]
        pairs += [[1.455, 1.019], [1.474, 1.387], [1.448, 1.030]]  # in one pair something else ran beside the base
        row = {"task": "mnist-mlp", "algorithm": "fer-sgd", "baseline": "sgd", "pairs": pairs}
        table = tables.overhead_table({"measurements": [row]}, labels=labels())
        base, own = (float(table.filter(like=name).iloc[0, 0]) for name in ("Base (s", "Algorithm (s"))
        ratio = float(table["Ratio, median [interval]"][0].split(" ")[0])
        assert own == pytest.approx(base * ratio, abs=0.005 * (1 + ratio))
        assert "Gradient consistency over SGD on MNIST, MLP, pair 8 (1.063)" in table.attrs["note"]
        assert table["n"][0] == 9  # it stays in

    def test_protocol_is_the_studys(self) -> None:
        table = tables.protocol_table(get_study("fer", "full"), labels=labels()).set_index("Task")
        assert table.loc["MNIST, MLP", "Epochs"] == 10
        assert table["Tuning, for each algorithm"].str.startswith("12 trials of 3 epochs").all()

    def test_markdown(self) -> None:
        frame = pd.DataFrame({"a|b": ["x\ny", None], "n": [1, 2], "v": [0.1234567891, float("nan")]})
        assert table_files.to_markdown(frame).splitlines() == [
            "| a\\|b | n | v |",
            "| :--- | ---: | ---: |",
            "| x y | 1 | 0.123457 |",
            "| - | 2 | - |",
        ]

    def test_a_note_stands_below_the_table_in_markdown_alone(self) -> None:
        table = table_files.noted(pd.DataFrame({"a": ["x"]}), "Over the seeds, n = 5.")
        assert table_files.to_markdown(table).splitlines()[2:] == ["| x |", "", "*Over the seeds, n\u00a0=\u00a05.*"]
        files = table_files.render_tables({"one": table})
        assert files["one.md"].endswith(".*\n")
        assert "seeds" not in files["one.csv"]
        assert "note" not in table_files.noted(pd.DataFrame({"a": ["x"]}), "").attrs

    @pytest.mark.parametrize(
        "value",
        [
            "98.49 ± 0.11",
            "(n = 4, 1 diverged)",
            "-4.90 ± 0.59",
            "+0.06 [-0.12, +0.24] points",
            "1.387 [1.282, 1.501] times",
            "7.5 (7.1 to 7.9)",
            "lr = 3.168e-05",
            "p < 0.001",
            "20 %",
            "13.1 s",
            "5 of 5 runs",
        ],
    )
    def test_values_do_not_break(self, value: str) -> None:
        text = f"It was {value}, on MNIST."
        (row,) = table_files.to_markdown(pd.DataFrame({"a": [text]})).splitlines()[2:]
        assert row == f"| It was {value.replace(' ', chr(0xA0))}, on MNIST. |"
        assert text in table_files.render_tables({"one": pd.DataFrame({"a": [text]})})["one.csv"]

    def test_no_value_of_a_studys_tables_breaks(self) -> None:
        for table in (
            tables.comparison_table(FRAME, labels=labels()),
            tables.hyperparameters_table(FRAME, labels=labels()),
            tables.overhead_table(MEASUREMENTS, labels=labels()),
        ):
            assert not re.search(r"\d [±\[%]|[=±] \d", table_files.to_markdown(table).partition("\n")[2])

    def test_tables_are_written_twice_over(self, tmp_path: Path) -> None:
        table = tables.summary_table(FRAME, labels=labels())
        paths = table_files.write_tables({"one": table}, tmp_path / "new")
        assert sorted(path.name for path in paths) == ["one.csv", "one.md"]
        read = pd.read_csv(io.StringIO((tmp_path / "new" / "one.csv").read_text()))
        pd.testing.assert_frame_equal(read.drop(columns=table_files.RUNS), table, rtol=1e-5)
