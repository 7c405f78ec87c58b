"""What is built from this repository: an sdist without tests, a wheel, their metadata and what they require."""

from __future__ import annotations

import ast
import importlib
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from html.parser import HTMLParser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import advanced_optimizers

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGE = {
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "advanced_optimizers").rglob("*")
    if path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")
}
SETUP = runpy.run_path(str(ROOT / "setup.py"))
# The extras that the package imports from; the others are for whoever works on it.
IMPORTED_EXTRAS = {"experiments", "notebooks", "frameworks", "ray", "dask", "dp", "quantum", "flower"}
LOCKED_EXTRAS = {"experiments", "notebooks", "frameworks", "ray", "dask", "peers", "nas", "dp", "quantum", "dev"}


@dataclass(frozen=True)
class Distribution:
    """The names of the files in an sdist and in a wheel, and the wheel's metadata."""

    sdist: set[str]
    wheel: set[str]
    metadata: Message
    entry_points: str

    def requirements(self, extras: set[str]) -> list[Requirement]:
        """What is installed with all of these extras; with none of them, what is always installed."""
        wanted = map(Requirement, self.metadata.get_all("Requires-Dist", []))
        return [
            requirement
            for requirement in wanted
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)
        ]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    """An sdist of a copy of the repository, and a wheel of that sdist, as pip builds them."""
    folder = tmp_path_factory.mktemp("build")
    copy = folder / "repository"
    copy.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "Makefile"):
        shutil.copy(ROOT / name, copy)
    for name in ("advanced_optimizers", "benchmarks", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    with tarfile.open(build("sdist", copy, folder)) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames() if not sdist.getmember(name).isdir()}
        sdist.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    with zipfile.ZipFile(build("wheel", unpacked, folder)) as wheel:
        (about,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
        return Distribution(
            sdist=names,
            wheel={name for name in wheel.namelist() if not name.startswith(f"{about}/")},
            metadata=message_from_bytes(wheel.read(f"{about}/METADATA")),
            entry_points=wheel.read(f"{about}/entry_points.txt").decode(),
        )


def build(kind: str, source: Path, target: Path) -> Path:
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(target)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target / done.stdout.splitlines()[-1]


# --- Files -----------------------------------------------------------------------------------------------------------


def test_the_sdist_has_the_whole_package_and_no_tests(built: Distribution) -> None:
    generated = {name for name in built.sdist if ".egg-info/" in name} | {"PKG-INFO", "setup.cfg"}
    papers = {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "setup.py", "MANIFEST.in"}
    assert built.sdist - generated == PACKAGE | papers


def test_the_wheel_has_the_whole_package_and_nothing_else(built: Distribution) -> None:
    assert built.wheel == PACKAGE
    assert "advanced_optimizers/py.typed" in PACKAGE


# --- Metadata --------------------------------------------------------------------------------------------------------


def test_the_version_is_the_packages(built: Distribution) -> None:
    assert built.metadata["Name"] == "advanced-optimizers"
    assert built.metadata["Version"] == advanced_optimizers.__version__


def test_the_console_command_is_the_modules_main(built: Distribution) -> None:
    section, command = built.entry_points.strip().splitlines()
    name, _, target = command.partition(" = ")
    assert (section, name) == ("[console_scripts]", "advanced-optimizers")
    module, _, function = target.partition(":")
    assert module == "advanced_optimizers.experiments.__main__"
    assert callable(getattr(importlib.import_module(module), function))


def test_the_urls_lead_to_the_repository(built: Distribution) -> None:
    urls = dict(url.split(", ") for url in built.metadata.get_all("Project-URL", []))
    assert urls.keys() == {"Homepage", "Documentation", "Repository", "Issues", "Changelog"}
    assert urls["Repository"] == SETUP["REPOSITORY"]
    assert all(url.startswith(SETUP["REPOSITORY"]) for url in urls.values())


# --- What it requires ------------------------------------------------------------------------------------------------


def test_the_package_itself_requires_torch_alone(built: Distribution) -> None:
    assert [requirement.name for requirement in built.requirements(set())] == ["torch"]


def test_every_package_that_is_imported_is_in_an_extra(built: Distribution) -> None:
    required = built.requirements(IMPORTED_EXTRAS)
    named = {canonicalize_name(requirement.name) for requirement in required}
    named |= {extra for requirement in required for extra in requirement.extras}  # distributed, of dask[distributed]
    distributions = packages_distributions()
    missing = {
        f"{path}: {module}"
        for path in PACKAGE
        if path.endswith(".py")
        for module in imported_packages(ROOT / path) - sys.stdlib_module_names - {"advanced_optimizers"}
        if named.isdisjoint(map(canonicalize_name, distributions.get(module, [module])))
    }
    assert not missing


def imported_packages(path: Path) -> set[str]:
    """The packages that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def test_the_lock_has_every_requirement_in_a_version_that_fits(built: Distribution) -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line.removesuffix("\\")) for line in lines if line[:1].isalnum()]
    for requirement in built.requirements(LOCKED_EXTRAS):
        versions = [
            specifier.version
            for pin in pins
            if canonicalize_name(pin.name) == canonicalize_name(requirement.name)
            for specifier in pin.specifier
        ]
        assert versions, f"{requirement.name} is not in requirements.txt"
        assert all(map(requirement.specifier.contains, versions)), f"{requirement} against {versions}"


# --- The long description --------------------------------------------------------------------------------------------


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.targets += [value for name, value in attributes if name in {"href", "src", "srcset"} and value]


def targets(markdown: str) -> list[str]:
    """Where a text's links and images lead, those of HTML tags included."""
    tags = _Tags()
    tags.feed(MarkdownIt("commonmark").enable("table").render(markdown))
    return tags.targets


def test_no_link_of_the_long_description_is_relative(built: Distribution) -> None:
    described = built.metadata.get_payload()
    assert built.metadata["Description-Content-Type"] == "text/markdown"
    assert len(targets(described)) == len(targets(README)) > 0
    assert [target for target in targets(described) if "://" not in target] == []


def test_the_readmes_relative_links_lead_to_files() -> None:
    relative = [target.partition("#")[0] for target in targets(README) if "://" not in target]
    assert [target for target in relative if not (ROOT / target).exists()] == []


def test_links_and_images_become_absolute_and_code_stays() -> None:
    blob, raw = (f"{SETUP['REPOSITORY']}/{view}/main" for view in ("blob", "raw"))
    text = """
[a](docs/a.md#part) [b](https://b.org) [`c`](c) [d](#d) ![e](e.PNG "title") [![f](f.svg)](f/)
<a href="g.md"><img alt="" src="g.png"></a> [h]
`i[0](j)`

[h]: h.md

```python
k[0](l)
```
"""
    expected = f"""
[a]({blob}/docs/a.md#part) [b](https://b.org) [`c`]({blob}/c) [d]({blob}/README.md#d) ![e]({raw}/e.PNG "title") \
[![f]({raw}/f.svg)]({blob}/f/)
<a href="{blob}/g.md"><img alt="" src="{raw}/g.png"></a> [h]
`i[0](j)`

[h]: {blob}/h.md

```python
k[0](l)
```
"""
    assert SETUP["with_absolute_links"](text) == expected


def test_the_readme_names_every_extra(built: Distribution) -> None:
    extras = built.metadata.get_all("Provides-Extra", [])
    assert extras
    assert [extra for extra in extras if f"`{extra}`" not in README] == []
