"""The pages of the report site, as they are laid out before Sphinx sees them; `make docs` checks what it built."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

import advanced_optimizers

ROOT = Path(__file__).parent.parent
SITE = ROOT / "docs" / "site"
LAYOUT = SimpleNamespace(**runpy.run_path(str(SITE / "pages.py")))
PAGES: dict[str, str] = LAYOUT.pages()


def listed(front: str) -> list[str]:
    """The pages that a front page's tables of contents list."""
    trees = re.findall(r"```\{toctree\}\n(.*?)```", front, re.DOTALL)
    entries = [line for tree in trees for line in tree.splitlines() if line and line[0] != ":"]
    return [re.sub(r".*<(.*)>", r"\1", entry) for entry in entries]


def test_every_page_is_listed_once_or_lies_aside():
    names = {path.rpartition(".")[0] for path in PAGES}
    aside = {path.rpartition(".")[0] for path, text in PAGES.items() if text.startswith("---\norphan: true")}
    assert sorted(listed(PAGES["index.md"])) == sorted(names - aside - {"index"})
    assert aside == {path.removesuffix(".md") for path in LAYOUT.linked()}


def test_every_document_and_notebook_is_a_page():
    patterns = ("coursework_report*.md", "CHANGELOG.md", "docs/*.md", "notebooks/*.ipynb", "README.*.md")
    documents = {path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)}
    assert documents <= PAGES.keys()
    assert len(documents) >= 13
    assert PAGES["notebooks/01_fer.ipynb"] == (ROOT / "notebooks" / "01_fer.ipynb").read_text(encoding="utf-8")


def test_every_public_name_is_in_the_api_reference():
    documented = set(re.findall(r"^   (\w+)$", PAGES["api/advanced_optimizers.rst"], re.MULTILINE))
    assert documented == set(advanced_optimizers.__all__)
    for module in LAYOUT.modules():
        assert f".. automodule:: {module}\n" in PAGES[f"api/{module}.rst"]
    room = importlib.import_module("advanced_optimizers.fer_optimizer")
    assert LAYOUT.public_names(room.__name__) == room.__all__


def test_the_readme_is_the_front_page_and_its_table_a_page_of_its_own():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [line for line in readme.splitlines() if line.startswith("| `torch.compile`")]
    assert len(rows) == 1
    assert rows[0] in PAGES[LAYOUT.TABLE]
    assert rows[0] not in PAGES["index.md"]
    assert "## Reproduce it" in PAGES["index.md"]


def test_no_marker_of_a_generated_block_is_left():
    assert "<!-- result:" in (ROOT / "coursework_report.md").read_text(encoding="utf-8")
    marked = [path for path, text in PAGES.items() if re.search("^<!-- ", text, re.MULTILINE) and path.endswith(".md")]
    assert marked == []


# ---- on a small repository: what is not there yet, and what can go wrong ---------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Path:
    files = {
        "README.md": "# Name\n\nSee [tables](docs/use.md).\n\n### What works with what\n\n| a |\n| - |\n\n## Read on\n",
        "coursework_report.md": "# Report\n\n<!-- a -->3<!-- /a --> and `<!-- b -->`.\n\n[c](data/README.md)\n",
        "CHANGELOG.md": "# Changes\n",
        "docs/use.md": "# Use\n\n[a](../README.md#what-works-with-what) [b](../README.md#read-on) [c](../notebooks)\n",
        "data/README.md": "# Data\n",
        "notebooks/01_a.ipynb": "{}",
        "advanced_optimizers/_create.py": '__all__ = ["create"]\n',
        "advanced_optimizers/room/__init__.py": '__all__ = ["Room"]\n',
        "advanced_optimizers/experiments/__init__.py": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("translated", [False, True])
def test_a_translation_and_a_new_guide_are_listed_once_they_exist(small: Path, translated: bool):
    names = ["coursework_report.ru", "README.ru", "docs/comparing_your_optimizer"]
    if translated:
        for name in names:
            (small / f"{name}.md").write_text("# Отчёт\n\n$x_1$\n", encoding="utf-8")
    pages = LAYOUT.pages(small)
    assert [name in listed(pages["index.md"]) for name in names] == [translated] * 3
    assert ("По-русски" in pages["index.md"]) == translated
    assert listed(pages["index.md"]).count("coursework_report") == 1


def test_links_lead_to_pages_of_the_site_and_comments_are_dropped(small: Path):
    pages = LAYOUT.pages(small)
    use = pages["docs/use.md"]
    assert "[a](../what_works_with_what.md#what-works-with-what)" in use
    assert "[b](../index.md#read-on)" in use
    assert "[c](../notebooks/01_a.ipynb)" in use
    assert "\n3 and `<!-- b -->`.\n" in pages["coursework_report.md"]
    assert pages["data/README.md"].startswith("---\norphan: true")


def test_files_that_a_page_shows_or_offers_are_linked_and_nothing_stale_is_left(small: Path, tmp_path: Path):
    (small / "figures").mkdir()
    (small / "figures" / "a.png").write_bytes(b"png")
    (small / "CHANGELOG.md").write_text("# Changes\n\n![a](figures/a.png)\n", encoding="utf-8")
    folder = tmp_path / "built"
    folder.mkdir()
    (folder / "old.md").write_text("# Old\n", encoding="utf-8")
    LAYOUT.write(folder, small)
    assert (folder / "figures" / "a.png").read_bytes() == b"png"
    assert not (folder / "old.md").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("README.md", "# Name\n\n## Read on\n", "no heading 'What works with what'"),
        ("advanced_optimizers/room/__init__.py", "x = 1\n", r"room.__init__\.py has no __all__"),
    ],
)
def test_what_the_layout_needs_is_named_when_it_is_missing(small: Path, name: str, text: str, message: str):
    (small / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        LAYOUT.pages(small)


# ---- the check of the built pages ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def check() -> SimpleNamespace:
    sys.path.insert(0, str(SITE))
    try:
        return SimpleNamespace(**runpy.run_path(str(SITE / "check.py")))
    finally:
        sys.path.remove(str(SITE))
        for name in ("pages", "formulas"):
            sys.modules.pop(name, None)


def built(folder: Path, body: str) -> Path:
    (folder / "api").mkdir()
    (folder / "other.html").write_text('<h1 id="there">x</h1>', encoding="utf-8")
    (folder / "page.html").write_text(f"<html><body>{body}</body></html>", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="other.html#there">x</a><img src="data:image/png;base64,aa">', None),
        ('<a href="https://example.org">x</a><code>$x_1$</code><span class="math">\\(x\\)</span>', None),
        ('<a href="gone.html">x</a>', "gone.html leads nowhere"),
        ('<a href="other.html#gone">x</a>', "other.html#gone: no such anchor there"),
        ('<img src="gone.png">', "gone.png leads nowhere"),
        ('<script src="https://example.org/a.js"></script>', "https://example.org/a.js would be loaded from a network"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "//example.org/a.css would be loaded from a network"),
        (
            "<style>@import url(https://example.org/a.css)</style>",
            "https://example.org/a.css would be loaded from a network",
        ),
        ("<p>a $x_1$ b</p>", "$x_1$ is not a formula"),
        ("<p>&lt;!-- result:value --&gt;</p>", "<!-- result:value --> shows"),
    ],
)
def test_the_check_names_what_is_broken(tmp_path: Path, check: SimpleNamespace, body: str, fault: str | None):
    found = check.problems(built(tmp_path, body))
    assert [line for line in found if line.startswith("page.html")] == ([f"page.html: {fault}"] if fault else [])
    assert "index.html: is not built" in found
    assert "api: advanced_optimizers.create_optimizer has no entry" in found


def test_a_formula_that_mathjax_refuses_is_named(
    tmp_path: Path, check: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
):
    shown = [
        "<mjx-container></mjx-container>",
        '<mjx-container><g data-mjx-error="Misplaced &amp;"></g></mjx-container>',
        '<mjx-container><mtext mathcolor="red">\\foo</mtext></mjx-container>',
        "\\(d\\)",
    ]
    dom = "".join(f'<p id="{number}">{html}</p>\n' for number, html in enumerate(shown))
    (tmp_path / "dom").write_text(dom, encoding="utf-8")
    browser = tmp_path / "chromium"
    browser.write_text(f"#!/bin/sh\ncat '{tmp_path}/dom'\n", encoding="utf-8")
    browser.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    body = "".join(rf'<span class="math">\({formula}\)</span>' for formula in ("a", "a &amp; b", r"\foo", "d"))
    assert check.refused(built(tmp_path, body)) == [
        r"page.html: \(a & b\): Misplaced &",
        r"page.html: \(\foo\): \foo",
        r"page.html: \(d\): not typeset",
    ]


# ---- what it is built with -------------------------------------------------------------------------------------------


def test_the_sites_lock_has_the_extra_docs_in_versions_that_fit():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read pyproject.toml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (SITE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line.removesuffix("\\")) for line in lines if line[:1].isalnum()]
    for requirement in map(Requirement, project["optional-dependencies"]["docs"]):
        versions = [spec.version for pin in pins if pin.name == requirement.name for spec in pin.specifier]
        assert versions, f"{requirement.name} is not in docs/site/requirements.txt"
        assert all(map(requirement.specifier.contains, versions)), f"{requirement} against {versions}"


def test_sphinx_finds_every_extension_and_file_that_the_configuration_names():
    for module in ("sphinx", "myst_nb", "furo", "sphinx-mathjax-offline"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: `make docs` does that")
    path = list(sys.path)
    conf = runpy.run_path(str(SITE / "conf.py"))
    sys.path[:] = path
    assert all(importlib.util.find_spec(extension) for extension in conf["extensions"])
    assert all((SITE / name).exists() for name in conf["html_static_path"])
    assert all((SITE / "static" / name).is_file() for name in conf["html_css_files"])
