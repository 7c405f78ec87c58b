"""Every example of docs/frameworks.md and of the integrations runs as printed, where its framework is installed."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "frameworks.md"
# Section -> its examples.
EXAMPLES = {
    section.splitlines()[0]: re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
}
FRAMEWORKS = {"Lightning": "lightning", "Hugging Face's Trainer": "transformers"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # for what a framework writes


def test_each_section_has_one_example():
    assert {name: len(examples) for name, examples in EXAMPLES.items()} == dict.fromkeys(
        ("By name", "Lightning", "Hugging Face's Trainer", "accelerate", "timm", "Opacus"), 1
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("section", EXAMPLES)
def test_the_example_runs(section: str):
    if section != "By name":
        module = FRAMEWORKS.get(section, section.lower())
        pytest.importorskip(module, reason="needs the extra `frameworks`")
    exec(compile(EXAMPLES[section][0], str(PAGE), "exec"), {"__name__": "example"})


@pytest.mark.parametrize("framework", ["lightning", "timm", "transformers"])
def test_examples_in_docstrings_run(framework: str):
    pytest.importorskip(framework, reason="needs the extra `frameworks`")
    module = importlib.import_module(f"advanced_optimizers.integrations.{framework}")
    assert module.__all__ == sorted(module.__all__)
    assert doctest.testmod(module).failed == 0
