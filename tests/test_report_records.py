"""The report and the records: what was edited, lost, moved or added is found, and writing loses nothing."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from advanced_optimizers.experiments.records import writing
from advanced_optimizers.experiments.records.checks import content_checksum
from advanced_optimizers.experiments.records.record import RecordError
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report import report
from advanced_optimizers.experiments.report.blocks import blocks as report_blocks
from advanced_optimizers.experiments.report.blocks.blocks import ReportContext
from advanced_optimizers.experiments.report.report import check_report, run_report, update_report, write_results
from tests.report_project import STUDY, make_project, record_of
from tests.synthetic_runs import make_config, make_record


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose report has been filled from its records."""
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def root(reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may damage."""
    monkeypatch.setattr(report_blocks, "STUDIES", {("fer", "full"): STUDY})
    return Path(shutil.copytree(reported, tmp_path / "project"))


class TestRecords:
    def test_a_deleted_record(self, root: Path) -> None:
        path = record_of(root)
        path.unlink()
        problems = run_report(root, check=True)
        assert any(p.startswith("study fer: 1 of 24 runs have no record") and path.stem in p for p in problems)
        assert any(
            p.startswith("results/runs/SHA256SUMS lists records that are gone") and path.stem in p for p in problems
        )
        assert any(p.startswith("figures/") and path.stem in p for p in problems)

    def test_a_deleted_record_is_noticed_when_the_report_is_filled_again(self, root: Path) -> None:
        path = record_of(root)
        path.unlink()
        context = ReportContext(root)
        context.store.update_manifest()
        write_results(context)
        update_report([root / "README.md"], context)
        assert any(path.stem in problem for problem in run_report(root, check=True))

    def test_a_deleted_tuning_trial(self, root: Path) -> None:
        path = record_of(root, lambda text: '"split": "validation"' in text)
        path.unlink()
        problems = run_report(root, check=True)
        # The runs of its algorithm are not known without it; those of the other one are.
        assert any("1 of 14 runs have no record" in p and path.stem in p for p in problems)
        assert any("run fer --profile full" in p for p in problems)

    def test_a_record_that_no_study_asks_for_any_more_is_noticed_when_it_is_deleted(self, root: Path) -> None:
        store = RunStore(root / "results" / "runs")
        path = store.save(make_record(make_config("cifar10-jpeg-convnet", "adam", seed=9)))
        store.update_manifest()
        assert run_report(root, check=True) == []
        path.unlink()
        (problem,) = run_report(root, check=True)
        assert problem.startswith("results/runs/SHA256SUMS lists records that are gone")
        assert path.stem in problem

    @pytest.mark.parametrize("sealed", [False, True])
    @pytest.mark.parametrize("field", ["final", "curves"])
    def test_an_edited_result(self, root: Path, field: str, sealed: bool) -> None:
        path = record_of(root)
        record = json.loads(path.read_text())
        record[field]["test_accuracy"] = 0.9999 if field == "final" else [0.9999] * 10
        if sealed:  # with the checksum of the edited content
            record["checksum"] = content_checksum(record)
        path.write_text(json.dumps(record))
        (problem,) = run_report(root, check=True)
        assert str(path) in problem
        assert "it was edited" in problem
        with pytest.raises(RecordError, match=path.name):
            run_report(root, check=False)
        with pytest.raises(RecordError, match=path.name):
            _ = ReportContext(root).study("fer").frame  # as in a notebook

    def test_a_result_that_was_edited_throughout(self, root: Path) -> None:
        path = record_of(root)
        record = json.loads(path.read_text())
        record["curves"]["test_accuracy"][-1] = record["final"]["test_accuracy"] = 0.9999
        record["checksum"] = content_checksum(record)
        path.write_text(json.dumps(record))
        problems = run_report(root, check=True)
        assert any("lists other contents" in problem and path.stem in problem for problem in problems)

    def test_a_record_in_a_wrong_folder(self, root: Path) -> None:
        path = record_of(root)
        (path.parents[1] / "elsewhere").mkdir()
        moved = path.rename(path.parents[1] / "elsewhere" / path.name)
        damaged, gone = run_report(root, check=True)
        assert f"{moved} is damaged (it belongs in {path})" in damaged
        assert "lists records that are gone" in gone
        assert path.stem in gone

    def test_an_added_record(self, root: Path) -> None:
        added = make_record(make_config("cifar10-jpeg-convnet", "adam", seed=9))
        path = RunStore(root / "results" / "runs").save(added)
        (problem,) = run_report(root, check=True)
        assert problem.startswith("results/runs/SHA256SUMS does not list records that are there")
        assert path.stem in problem
        assert problem.endswith("run report")
        ReportContext(root).store.update_manifest()
        assert run_report(root, check=True) == []

    def test_a_damaged_record_hides_neither_a_deleted_nor_an_added_one(self, root: Path) -> None:
        store = RunStore(root / "results" / "runs")
        added = store.save(make_record(make_config("cifar10-jpeg-convnet", "adam", seed=9)))
        damaged, deleted = [path for path in store.paths() if path != added][:2]
        damaged.write_text("{")
        deleted.unlink()
        problems = run_report(root, check=True)
        assert len(problems) == 3
        for path, words in ((damaged, "is damaged"), (deleted, "that are gone"), (added, "that are there")):
            assert any(words in problem and path.stem in problem for problem in problems)

    def test_a_figure_of_unknown_runs(self, root: Path) -> None:
        (root / "figures" / "old.json").write_text('{"figure": "old.png", "run_ids": ["0000"], "sources": []}')
        assert run_report(root, check=True)[0] == "figures/old.json: runs without a record: 0000"

    def test_damaged_files_are_named(self, root: Path) -> None:
        path = record_of(root)
        path.write_text("{")
        (problem,) = run_report(root, check=True)
        assert f"the record {path} is damaged" in problem
        with pytest.raises(RecordError, match=path.name):
            run_report(root, check=False)

    @pytest.mark.parametrize("content", ["{", "[]", "{}", '{"measurements": [{"task": "mnist-mlp"}]}'])
    def test_a_damaged_measurement_is_named(self, root: Path, content: str) -> None:
        (root / "results" / "benchmarks" / "epoch_overhead.json").write_text(content)
        with pytest.raises(RecordError, match=r"epoch_overhead.json is damaged .* make bench"):
            run_report(root, check=True)

    def test_a_study_that_has_not_run(self, root: Path) -> None:
        for folder in ("results", "figures"):
            shutil.rmtree(root / folder)
        problems = run_report(root, check=False)
        assert problems[0].startswith("study fer: 4 of 4 runs have no record")
        text = (root / "README.md").read_text()
        assert "no run yet<!-- /result --> on MNIST" in text
        assert "pending" in (root / "coursework_report.md").read_text()

    def test_a_missing_file(self, root: Path) -> None:
        (root / "README.md").unlink()
        assert run_report(root, check=True) == ["README.md is missing"]


class TestWriting:
    def test_what_did_not_change_is_not_written(self, root: Path) -> None:
        before = {path: path.stat() for path in root.rglob("*")}
        assert run_report(root, check=False) == []
        after = {path: path.stat() for path in root.rglob("*")}
        assert [p for p in after if (p.is_file() and after[p].st_mtime_ns != before[p].st_mtime_ns)] == []
        assert {p: s.st_ino for p, s in after.items()} == {p: s.st_ino for p, s in before.items()}

    def test_line_ends_are_kept(self, root: Path) -> None:
        path = root / "README.md"
        crlf = path.read_bytes().replace(b"\n", b"\r\n")
        path.write_bytes(crlf)
        context = ReportContext(root)
        assert check_report([path], context) == []
        update_report([path], context)
        assert path.read_bytes() == crlf
        path.write_bytes(crlf.replace(b"(n = 5)", b"(n = 6)").replace(b"\r\nNeeds", b"\nNeeds"))
        update_report([path], context)
        assert path.read_bytes() == crlf.replace(b"\r\nNeeds", b"\nNeeds")

    @pytest.mark.parametrize("name", ["README.md", "coursework_report.md", "results/tables/fer-timing.md"])
    def test_with_a_full_disk_nothing_is_lost(self, root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        path = root / name
        text = path.read_text().replace("5", "6")
        path.write_text(text)

        def fail(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        context = ReportContext(root)
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match=re.escape(str(path))):
            update_report([path], context) if path.parent == root else write_results(context)
        assert path.read_text() == text
        assert not list(root.rglob("*.tmp"))

    def test_what_a_crash_left_is_removed(self, root: Path) -> None:
        dead = subprocess.Popen(["true"])
        dead.wait()
        places = (
            root / "README.md",
            root / "results" / "tables" / "fer-timing.md",
            root / "figures" / "a.png",
            record_of(root),
        )
        for path in places:
            path.with_name(f"{path.name}.{writing._machine()}-{dead.pid}-3.tmp").write_text("half")
        report._remove_leftovers(ReportContext(root))
        assert not list(root.rglob("*.tmp"))
