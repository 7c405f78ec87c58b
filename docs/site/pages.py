"""Lays out the pages of the report site: `python docs/site/pages.py FOLDER`.

The Markdown files and notebooks of the repository are the only source. They are copied to FOLDER under the paths that
they have in the repository, so that their links and images work unchanged; what a site needs besides (the front page
with the table of contents, a page per room of the package) is written here. Sphinx is not needed for this: a test looks
at the pages without it.
"""

from __future__ import annotations

import ast
import re
import shutil
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "advanced_optimizers"
FRONT = "index.md"
TABLE = "what_works_with_what.md"
TABLE_HEADING = "What works with what"

_CODE = r"^\ *(?P<fence>```|~~~).*?^\ *(?P=fence)[ ]*$ | (?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)"
_COMMENT = re.compile(rf"{_CODE} | (?P<found><!--.*?-->)", re.DOTALL | re.MULTILINE | re.VERBOSE)
_LINK = re.compile(rf"{_CODE} | (?P<before>\]\(\s*)(?P<found>[^)\s#]+)", re.DOTALL | re.MULTILINE | re.VERBOSE)
_SECTION = re.compile(rf"^#+ {TABLE_HEADING}$\n(?P<body>.*?)(?=^#+ )", re.DOTALL | re.MULTILINE)


def pages(root: Path = ROOT) -> dict[str, str]:
    """The text of every page by its path in the site."""
    front, table = _without_the_table((root / "README.md").read_text(encoding="utf-8"))
    texts = {FRONT: front, TABLE: table}
    for path in (*sources(root), *linked(root)):
        texts[path] = (root / path).read_text(encoding="utf-8")
    texts = {path: text if path.endswith(".ipynb") else _adapted(path, text, root) for path, text in texts.items()}
    for path in linked(root):
        texts[path] = _as_side_page(path, texts[path])
    texts |= {f"api/{module}.rst": _api_page(module, root) for module in modules(root)}
    texts[f"api/{PACKAGE}.rst"] = _api_front_page(root)
    texts[FRONT] += contents(root)
    return texts


def sources(root: Path = ROOT) -> list[str]:
    """The files that the table of contents lists. A translation is listed once it exists."""
    patterns = ("coursework_report*.md", "README.*.md", "CHANGELOG.md", "docs/*.md", "notebooks/*.ipynb")
    return [path.relative_to(root).as_posix() for pattern in patterns for path in sorted(root.glob(pattern))]


def linked(root: Path = ROOT) -> list[str]:
    """Markdown files that those link to: pages too, outside the table of contents."""
    known, found = {*sources(root), "README.md"}, set()
    for path in (*sorted(known),):
        if path.endswith(".md"):
            found |= {
                target for target in _targets(path, (root / path).read_text(encoding="utf-8")) if target.endswith(".md")
            }
    return sorted(target for target in found - known if (root / target).is_file())


def modules(root: Path = ROOT) -> list[str]:
    """The rooms of the package with public names; the integrations have one module per framework."""
    package = root / PACKAGE
    folders = [path.parent for path in package.glob("*/__init__.py") if path.parent.name != "experiments"]
    inside = [path for path in (package / "integrations").glob("*.py") if path.stem[0] != "_" and path.stem != "data"]
    called = list(package.glob("experiments/compare"))  # the one part of the experiments that users call
    return sorted(".".join(path.with_suffix("").relative_to(root).parts) for path in (*folders, *inside, *called))


def rooms(root: Path = ROOT) -> list[str]:
    """The modules whose public names the package itself has too."""
    beside = (f"{PACKAGE}.integrations", f"{PACKAGE}.experiments", f"{PACKAGE}.automl")
    return [module for module in modules(root) if not module.startswith(beside)]


def public_names(module: str, root: Path = ROOT) -> list[str]:
    """What `__all__` of a module lists, read without importing it: pages are laid out without torch."""
    path = root.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if getattr(targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    raise ValueError(f"{path} has no __all__: the API reference lists the names that it names")


def contents(root: Path = ROOT) -> str:
    """The table of contents, hidden on the page because the sidebar shows it."""
    names = [path.rpartition(".")[0] for path in sources(root)]
    russian = [name for name in names if name.endswith(".ru")]
    parts = {
        "Report": [name for name in names if name.startswith("coursework_report") and name not in russian],
        "По-русски": [f"Проект <{name}>" if name.startswith("README") else name for name in sorted(russian)],
        "Guides": [TABLE.removesuffix(".md"), *(name for name in names if name.startswith("docs/"))],
        "Notebooks": [name for name in names if name.startswith("notebooks/")],
        "API": [
            f"api/{PACKAGE}",
            *(f"{module.removeprefix(PACKAGE + '.')} <api/{module}>" for module in modules(root)),
        ],
        "History": ["CHANGELOG"],
    }
    trees = [
        "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *entries, "```"])
        for caption, entries in parts.items()
        if entries
    ]
    return "\n" + "\n\n".join(trees) + "\n"


def _without_the_table(readme: str) -> tuple[str, str]:
    """The README with a link in the place of its widest table, and that table as a page of its own."""
    match = _SECTION.search(readme)
    if match is None:
        raise ValueError(
            f"README.md has no heading {TABLE_HEADING!r}: name it in docs/site/pages.py as it is called now"
        )
    link = f"**[{TABLE_HEADING}]({TABLE})**: closures, schedulers, checkpoints, several processes, frameworks.\n\n"
    page = f"---\nhide-toc: true\n---\n\n# {TABLE_HEADING}\n{match['body']}"
    return readme[: match.start()] + link + readme[match.end() :], page


def _adapted(path: str, text: str, root: Path) -> str:
    """A page without the markers of generated blocks, whose links lead to pages of the site."""

    def uncommented(match: re.Match[str]) -> str:
        return match[0] if match["found"] is None else "\n" * match["found"].count("\n")

    def relinked(match: re.Match[str]) -> str:
        target = match["found"] and _resolved(path, match["found"])
        if target == "README.md":
            anchored_table = text[match.end() :].startswith("#" + TABLE_HEADING.lower().replace(" ", "-"))
            return match["before"] + _relative(path, TABLE if anchored_table else FRONT)
        if target and (root / target).is_dir():
            first = next((source for source in sources(root) if source.startswith(f"{target}/")), None)
            return match["before"] + _relative(path, first) if first else match[0]
        return match[0]

    return _LINK.sub(relinked, _COMMENT.sub(uncommented, text))


def _targets(path: str, text: str) -> set[str]:
    found = {match["found"] for match in _LINK.finditer(text)} - {None}
    return {target for target in (_resolved(path, link) for link in found) if target}


def _resolved(path: str, link: str) -> str | None:
    """The path in the repository that a link of a page leads to; None for an address elsewhere."""
    if re.match(r"[a-z]+:", link):
        return None
    parts: list[str] = []
    for part in (PurePosixPath(path).parent / link).parts:
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _relative(path: str, target: str) -> str:
    return "../" * path.count("/") + target


def _as_side_page(path: str, text: str) -> str:
    title = "" if text.lstrip().startswith("# ") else f"# {PurePosixPath(path).stem}\n\n"
    return f"---\norphan: true\nhide-toc: true\n---\n\n{title}{text}"


def _api_page(module: str, root: Path) -> str:
    shown = module.removeprefix(f"{PACKAGE}.")
    where = PACKAGE if module in rooms(root) else module
    names = public_names(module, root)
    intro = _rst_heading(shown, "=") + f"Import from ``{where}``:\n\n" + _summary(module, names)
    if module.startswith(f"{PACKAGE}.experiments"):  # imports its names on first use, so that Sphinx does not see them
        return intro + f".. automodule:: {module}\n\n" + "".join(map(_entry, names))
    return intro + f".. automodule:: {module}\n   :members:\n"


def _entry(name: str) -> str:
    return f".. autoclass:: {name}\n   :members:\n\n" if name[0].isupper() else f".. autofunction:: {name}\n\n"


def _api_front_page(root: Path) -> str:
    """All public names, and the two functions that belong to no room."""
    own = public_names(f"{PACKAGE}._create", root)
    by_name = _rst_heading("By name", "-") + _summary(PACKAGE, own) + "".join(map(_entry, own))
    headings = [_rst_heading(f":doc:`{room.removeprefix(f'{PACKAGE}.')} <{room}>`", "-") for room in rooms(root)]
    tables = [
        heading + _summary(room, public_names(room, root)) for heading, room in zip(headings, rooms(root), strict=True)
    ]
    return _rst_heading(PACKAGE, "=") + f"Import from ``{PACKAGE}``:\n\n" + by_name + "".join(tables)


def _rst_heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n\n"


def _summary(module: str, names: list[str]) -> str:
    listed = "".join(f"   {name}\n" for name in names)
    return f".. currentmodule:: {module}\n\n.. autosummary::\n   :nosignatures:\n\n{listed}\n"


def write(folder: Path, root: Path = ROOT) -> None:
    """Writes the pages, and links the folders that they take images and files from."""
    shutil.rmtree(folder, ignore_errors=True)
    written = pages(root)
    for path, text in written.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    for path, text in written.items():
        if path.endswith(".md"):
            for linked_file in sorted(_targets(path, text)):
                _link(root / linked_file, folder / linked_file)


def _link(source: Path, target: Path) -> None:
    if source.is_file() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
