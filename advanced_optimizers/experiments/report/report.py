"""Fills the generated blocks of the README and the report, and checks that they agree with the records.

Both are there in two languages. A Russian file (``NAME.ru.md``) has the blocks of the English one, and their text is
the English text through a dictionary (see ``translation``), so the two cannot disagree.

A block is ``<!-- result:key name=value ... -->text<!-- /result -->``. Its text is generated, never written by hand.
The markers of a number are in its line; those of a table or a figure are on lines of their own. A number that a source
claims is not a result; it is put between ``<!-- claimed -->`` and ``<!-- /claimed -->``. Any other decimal number or
percentage is rejected, in the whole file or, if the file marks its results with ``<!-- results -->`` and
``<!-- /results -->``, between those. Code, formulas, links, versions, arXiv ids, and numbers of sections, figures and
tables are not results, and neither are the names of conditions and bands (20 % wrong labels, 95 % interval).

In a file with ``<!-- numbered -->``, figures and tables have numbers (see ``numbering``): each must be referred to,
each section that the text refers to must exist, and no line of a paragraph may begin with a mark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from advanced_optimizers.experiments.evidence.metrics import first_few
from advanced_optimizers.experiments.records.manifest import MANIFEST
from advanced_optimizers.experiments.records.store import Differences
from advanced_optimizers.experiments.records.writing import remove_leftovers, write_if_changed
from advanced_optimizers.experiments.report.blocks.blocks import ReportContext
from advanced_optimizers.experiments.report.documents.captions import place_of
from advanced_optimizers.experiments.report.documents.documents import Document, English, english_texts
from advanced_optimizers.experiments.report.documents.languages import RUSSIAN, language_of
from advanced_optimizers.experiments.report.documents.markers import Block, blanked, line_of, parse, prose_of, read
from advanced_optimizers.experiments.report.documents.numbering import (
    NUMBERED,
    Edition,
    Numbered,
    sections_of,
    unknown_sections,
)
from advanced_optimizers.experiments.report.figures.plots import render_sidecar, save_figure
from advanced_optimizers.experiments.report.results.recorded import StudyFigure
from advanced_optimizers.experiments.report.tables.table_files import render_tables, write_tables

# In the order in which figures and tables are numbered.
NAMES = ("README", "coursework_report", "coursework_report_automl", "coursework_report_appendices")
FILES = tuple(f"{name}{ending}" for ending in (".md", RUSSIAN) for name in NAMES)
RUNS = Path("results") / "runs"
TABLES = Path("results") / "tables"
FIGURES = Path("figures")

_few = partial(first_few, limit=5, separator=", ")

_LINKED = re.compile(rf"\]\({FIGURES}/([\w.-]+)\.png\)")
_TORN = re.compile(r"[^\n]\n<!-- claimed -->")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*\s?%|(?<![\w.])\d+\.\d+")
# What looks like a result but is not.
_NOT_A_RESULT = re.compile(
    r"""
      <!--\ claimed\ -->.*?<!--\ /claimed\ -->
    | <!--.*?-->
    | \$\$.*?\$\$ | \$[^$\n]+\$                                            # formulas
    | \]\([^)]*\) | <?https?://[^\s>)]+>? | ^\[[^\]]+\]:\s.*?$             # links
    | \barXiv:?\s*\d{4}\.\d{4,5} | \bdoi:?\s*10\.\S+
    | \b\d+(?:\.\d+){2,}                                                   # versions with three parts
    | \b(?:Python|PyTorch|torch|torchvision|CUDA|version|v)\s?[>=<~]*\s?\d+(?:\.\d+)+\+?
    | (?:\b(?:sections?|figures?|tables?|equations?)|§)\s?\d+(?:\.\d+)*(?:\s(?:and|to)\s\d+(?:\.\d+)*)*
    | ^\#+\s+\d+(?:\.\d+)*                                                 # numbers of headings
    | \b\d+\s?%\s(?:wrong\b|(?:t-|confidence\s|bootstrap\s)?intervals?\b)  # names of conditions and bands
    | \b(?:раздел|рисун|таблиц|верси)\w*\s\d+(?:\.\d+)*(?:(?:\s(?:и|до)\s|\u2013)\d+(?:\.\d+)*)*
    | \b\d+\s?%\s(?:неверн|доверительн|интервал)\w*
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE | re.IGNORECASE,
)


def run_report(root: Path, check: bool) -> list[str]:
    """Fills (or, with ``check``, only checks) everything that the report generates.

    Filling lists the records in their manifest, writes ``results/tables``, ``figures`` and the blocks of both files,
    each as far as it changed, and then checks everything.

    Args:
        root: The project's folder.
        check: Whether to only check, and change nothing.

    Returns:
        One line per problem; none if everything agrees with the records.

    Raises:
        RecordError: A measurement file is damaged; or, unless ``check`` is set, a record is.
    """
    context = ReportContext(root)
    files = [root / name for name in FILES]
    if not check:
        _remove_leftovers(context)
        context.store.update_manifest()
        write_results(context)
        figures = shown_figures(context, files)
        _remove_unshown(root / FIGURES, figures)
        draw_figures(figures, root / FIGURES)
        update_report(files, context)
    return check_report(files, context)


def _remove_leftovers(context: ReportContext) -> None:
    """Removes the temporary files that processes left which died while they wrote."""
    context.store.remove_leftovers()
    for folder in (context.root, context.root / TABLES, context.root / FIGURES):
        remove_leftovers(folder)


def update_report(files: Sequence[Path], context: ReportContext) -> None:
    """Writes the text of every block, except in a file with a malformed marker and in a block that cannot be filled."""
    english, editions = english_texts(context), _editions(files)
    for path in files:
        if not path.is_file():
            continue
        text = read(path)
        blocks, problems = parse(text)
        if problems:
            continue
        document = _document(path.name, text, blocks, english, editions)
        for block in reversed(blocks):
            try:
                filled = _filled(block, document)
            except ValueError:
                continue
            if _unix(text[block.start : block.end]) != filled:
                filled = filled.replace("\n", block.line_end)
                text = text[: block.start] + filled + text[block.end :]
        write_if_changed(path, text)


def write_results(context: ReportContext) -> list[Path]:
    """Writes the studies' tables into ``results/tables``."""
    folder = context.root / TABLES
    return [path for results in context.results.values() for path in write_tables(results.tables, folder)]


def shown_figures(context: ReportContext, files: Sequence[Path]) -> dict[str, StudyFigure]:
    """The figures that a document shows or links to, by file name. The notebooks draw the others."""
    texts = [read(path) for path in files if path.is_file()]
    blocks = [block for text in texts for block in parse(text)[0] if block.key == "figure"]
    linked = {name for text in texts for name in _LINKED.findall(text)}
    shown = linked | {block.arguments.get("name", "") for block in blocks}
    return {name: figure for name, figure in context.figures.items() if name in shown}


def draw_figures(figures: Mapping[str, StudyFigure], folder: Path) -> list[Path]:
    """Draws figures by file name, and next to each writes the list of its runs."""
    return [
        save_figure(figure.draw(), folder / f"{name}.png", figure.run_ids, figure.sources)
        for name, figure in figures.items()
    ]


def _remove_unshown(folder: Path, figures: Collection[str]) -> None:
    """Removes what a study drew and no document shows; pictures without a list of runs stay."""
    for sidecar in folder.glob("*.json"):
        if sidecar.stem not in figures:
            sidecar.with_suffix(".png").unlink(missing_ok=True)
            sidecar.unlink()


def check_report(files: Sequence[Path], context: ReportContext) -> list[str]:
    """Compares everything that is generated with the records; changes nothing.

    Args:
        files: README and report.
        context: The results.

    Returns:
        One line per problem: a missing file, a missing, damaged, changed or added record, a malformed or unknown
        marker, a block, table or figure that differs from the records, and a number without a record.
    """
    differences = context.store.differences()
    if differences.damaged:
        # Nothing can be computed from the records before they are mended.
        return differences.damaged + _unlisted_records(differences)
    problems = []
    english, editions = english_texts(context), _editions(files)
    for path in files:
        if not path.is_file():
            problems.append(f"{path.name} is missing")
            continue
        text = read(path)
        blocks, malformed = parse(text)
        problems += [f"{path.name}:{problem}" for problem in malformed]
        if not malformed:
            document = _document(path.name, text, blocks, english, editions)
            found = list(_unbacked_numbers(text, blocks))
            if NUMBERED in text:
                found += _faults_of_text(path.name, text, blocks, editions[document.language.name])
            problems += [f"{path.name}:{problem}" for problem in [*found, *_drift(text, blocks, document)]]
    missing = _missing_records(context) + _unlisted_records(differences)
    # Without a record, everything computed from it differs as well: report only the cause.
    return missing + problems if missing else problems + _stale_files(context, shown_figures(context, files))


def _editions(files: Sequence[Path]) -> dict[str, Edition]:
    """By language, what its numbered files have in common."""
    places: dict[str, dict[Numbered, str]] = {}
    sections: dict[str, set[str]] = {}
    mentioned: dict[str, set[Numbered]] = {}
    for path in files:
        text = read(path) if path.is_file() else ""
        if NUMBERED not in text:
            continue
        blocks, _ = parse(text)
        language = language_of(path.name).name
        sections.setdefault(language, set()).update(sections_of(prose_of(text, blocks)))
        for block in blocks:
            if place := place_of(block.key, block.arguments):
                places.setdefault(language, {}).setdefault(place, f"{path.name}:{block.line}")
            if block.key == "number":
                mentioned.setdefault(language, set()).update(block.arguments.items())
    return {
        language: Edition(places.get(language, {}), frozenset(found), frozenset(mentioned.get(language, ())))
        for language, found in sections.items()
    }


def _document(
    name: str, text: str, blocks: Sequence[Block], english: English, editions: Mapping[str, Edition]
) -> Document:
    """What fills the blocks of a file. Without ``NUMBERED`` its figures and tables have no numbers."""
    language = language_of(name)
    if NUMBERED not in text:
        return Document(language, None, english)
    return Document(language, editions[language.name].outline(prose_of(text, blocks), language.labels), english)


def _faults_of_text(name: str, text: str, blocks: Sequence[Block], edition: Edition) -> Iterator[str]:
    """Sections that do not exist, figures and tables twice or never mentioned, and paragraphs that a mark would end."""
    for match in _TORN.finditer(prose_of(text, blocks)):
        yield f"{line_of(text, match.end() - 1)}: a mark starts a line, which Markdown would take for HTML"
    for position, number in unknown_sections(prose_of(text, blocks), edition.sections):
        yield f"{line_of(text, position)}: there is no section {number}"
    for block in blocks:
        place = place_of(block.key, block.arguments)
        if place and edition.places[place] != f"{name}:{block.line}":
            first = edition.places[place]
            yield f"{block.line}: {block.marker} is there twice: refer to the one in {first} by its number"
        elif place and place not in edition.mentioned:
            kind, own = place
            yield f"{block.line}: the text never refers to this {kind}: write <!-- result:number {kind}={own} -->"


def _filled(block: Block, document: Document) -> str:
    """The text that belongs between a block's markers.

    Raises:
        ValueError: The block cannot be filled.
    """
    text = document.text(block.key, block.arguments)
    if not block.inline:
        return f"\n{text}\n"
    if "\n" in text:
        raise ValueError("it has several lines: put its markers on lines of their own")
    if block.starts_line:
        raise ValueError("it starts a line, which Markdown would take for HTML: begin the line with a word")
    return text


def _drift(text: str, blocks: Sequence[Block], document: Document) -> Iterator[str]:
    for block in blocks:
        try:
            expected = _filled(block, document)
        except ValueError as error:
            yield f"{block.line}: {block.marker}: {error}"
            continue
        found = _unix(text[block.start : block.end])
        if found != expected:
            yield f"{block.line}: {block.marker} should hold {_short(expected)}, found {_short(found)}"


def _unbacked_numbers(text: str, blocks: Sequence[Block]) -> Iterator[str]:
    """Decimal numbers and percentages outside generated blocks, with their lines."""
    prose = prose_of(text, blocks)
    sections = [m.span() for m in re.finditer(r"<!-- results -->.*?(?:<!-- /results -->|\Z)", prose, re.DOTALL)]
    for match in _NOT_A_RESULT.finditer(prose):
        prose = blanked(prose, *match.span())
    for start, end in sections or [(0, len(prose))]:
        for match in _NUMBER.finditer(prose, start, end):
            yield (
                f"{line_of(text, match.start())}: {match.group()} has no record behind it: generate it with a result "
                "block, or mark a source's number as claimed"
            )


def _missing_records(context: ReportContext) -> list[str]:
    """Runs that a study or a figure refers to but that have no record."""
    problems = []
    for results in context.results.values():
        if results.missing and not results.study.in_progress:
            ids = _few([config.run_id for config in results.missing])
            count = f"{len(results.missing)} of {len(results.expected)} runs"
            problems.append(f"study {results.study.name}: {count} have no record ({ids}): {results.study.command}")
    known = {path.stem for path in context.store.paths()}
    for sidecar in sorted((context.root / FIGURES).glob("*.json")):
        shown = json.loads(sidecar.read_text(encoding="utf-8"))["run_ids"]
        lost = [run_id for run_id in shown if run_id not in known]
        if lost:
            problems.append(f"{FIGURES / sidecar.name}: runs without a record: {_few(lost)}")
    return problems


def _unlisted_records(differences: Differences) -> list[str]:
    """Records that are not what the manifest lists."""
    words = [
        ("lists records that are gone", differences.gone, "restore them from version control, or run report"),
        ("lists other contents of records that were trained again", differences.changed, "run report"),
        ("does not list records that are there", differences.added, "run report"),
    ]
    return [f"{RUNS / MANIFEST} {problem}: {_few(names)}: {remedy}" for problem, names, remedy in words if names]


def _stale_files(context: ReportContext, figures: Mapping[str, StudyFigure]) -> list[str]:
    """Generated files that are missing or do not agree with the records."""
    wanted: dict[Path, str] = {}
    for results in context.results.values():
        wanted |= {TABLES / name: text for name, text in render_tables(results.tables).items()}
    for name, figure in figures.items():
        sidecar = FIGURES / f"{name}.json"
        wanted[sidecar] = render_sidecar(f"{name}.png", figure.run_ids, figure.sources)
    problems = [
        f"{path} {'differs from the records' if (context.root / path).is_file() else 'is missing'}: run report"
        for path, text in wanted.items()
        if not (context.root / path).is_file() or (context.root / path).read_text(encoding="utf-8") != text
    ]
    pictures = [FIGURES / f"{name}.png" for name in figures]
    return problems + [f"{path} is missing: run report" for path in pictures if not (context.root / path).is_file()]


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 80 else f"{line[:77]}...")
