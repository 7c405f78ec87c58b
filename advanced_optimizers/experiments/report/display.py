"""What the notebooks show: a study opened, and its tables and figures, one line per cell."""

from __future__ import annotations

import html
import sys
import textwrap
from base64 import b64encode
from collections.abc import Mapping
from contextlib import redirect_stderr
from typing import Any

import pandas as pd
from IPython.display import HTML, Markdown, clear_output, display
from matplotlib.figure import Figure

from advanced_optimizers._checks import unknown_name
from advanced_optimizers.experiments.records.paths import output_root
from advanced_optimizers.experiments.report.blocks.blocks import ReportContext, render_block
from advanced_optimizers.experiments.report.figures import plots
from advanced_optimizers.experiments.report.results.recorded import RecordedStudy
from advanced_optimizers.experiments.report.results.results import results_of
from advanced_optimizers.experiments.report.tables.statement_table import statements_table
from advanced_optimizers.experiments.report.tables.table_files import to_markdown, unbroken
from advanced_optimizers.experiments.studies.registry import CLAIMS, STUDIES, TOPICS, get_study
from advanced_optimizers.experiments.studies.running import Workers, run_study

# A figure's width in pixels, and the length of a printed line: both fit a page of 850 pixels.
_FIGURE_WIDTH = 720
# A little wider than that, and about half the bytes of a figure of the report: for drawings, which are many and have
# large contours, and where a notebook has many large figures. Lines and points need fewer colors than contours.
_DRAWING: dict[str, int] = {"dpi": 120, "colors": 64}
_SMALL: dict[str, int] = {"dpi": 120, "colors": 32}
_LINE_LENGTH = 88


def open_study(name: str, profile: str = "full", *, retrain: bool = False, jobs: int = 1) -> RecordedStudy[Any]:
    """Loads a study's recorded runs, trains those that are missing, and says how many runs there are.

    A study of the full profile whose runs are still being recorded is shown as far as it is; to train the rest takes
    hours, so only ``retrain`` or the command that is printed does it.

    Training shows a progress bar, which is gone when it has finished: the same records always leave the same output.

    Args:
        name: The study, such as ``fer``.
        profile: ``full`` or ``quick``.
        retrain: Train every run again; the records are replaced.
        jobs: Runs at a time, one thread each.

    Returns:
        The study's results, for :func:`show_table` and :func:`show_figure`.

    Raises:
        ValueError: There is no such study or profile.
        StudyError: Some runs failed.
    """
    study = get_study(name, profile)
    results = results_of(study, output_root(profile))
    waits = study.in_progress and profile == "full" and not retrain and results.missing
    if not waits:
        # A notebook shows the error stream in a red box, and progress is not an error.
        with redirect_stderr(sys.stdout):
            run_study(study, results.store, Workers(jobs=jobs), retrain=retrain)
        results = results_of(study, output_root(profile))
        clear_output()
    print(textwrap.fill(results.loaded, _LINE_LENGTH))
    if waits:
        print(textwrap.fill(f"still being recorded; this trains the rest: {study.command}", _LINE_LENGTH))
    return results


def show_protocol(results: RecordedStudy[Any]) -> None:
    """Displays how long and on what a study trains."""
    _show_markdown(results.protocol)


def show_table(results: RecordedStudy[Any], name: str) -> None:
    """Displays one of a study's tables with its note.

    Args:
        results: From :func:`open_study`.
        name: The table's file name, such as ``fer-test-accuracy``.

    Raises:
        ValueError: The study has no such table, and no run is missing.
    """
    if name not in results.tables:
        _say_pending(results, "table", name, results.tables)
        return
    _show_markdown(results.tables[name])


def show_figure(results: RecordedStudy[Any], name: str, *, small: bool = False) -> None:
    """Draws one of a study's figures and displays it with its caption; no file of it is kept.

    Args:
        results: From :func:`open_study`.
        name: The figure's file name, such as ``fer-learning-curves``.
        small: Whether it takes half the bytes, with fewer pixels and colors than in the report.

    Raises:
        ValueError: The study has no such figure, and no run is missing.
    """
    if name not in results.figures:
        _say_pending(results, "figure", name, results.figures)
        return
    kept = results.figures[name]
    _show_picture(plots.picture_of(kept.draw(), **(_SMALL if small else {})), kept.caption, kept.full_caption)


def show_block(key: str, profile: str = "full", **arguments: str) -> None:
    """Displays one of the report's generated blocks, by the runs of a profile.

    Args:
        key: The block's key, such as ``remade``.
        profile: ``full`` or ``quick``.
        **arguments: The block's arguments.

    Raises:
        ValueError: There is no such block, or an argument is missing or unknown.
    """
    studies = [study for (_, of_profile), study in STUDIES.items() if of_profile == profile]
    display(Markdown(render_block(ReportContext(output_root(profile), studies), key, arguments)))


def show_drawing(figure: Figure, caption: str, note: str = "") -> None:
    """Displays a figure that was drawn from something else than a study's records.

    Args:
        figure: The figure; no file of it is kept.
        caption: What it shows, in a few words; also its alternative text.
        note: What its marks mean, in sentences.
    """
    picture = plots.picture_of(figure, **_DRAWING)
    _show_picture(picture, caption, f"{_sentence(caption)} {note}".rstrip())


def show_animation(svg: bytes, caption: str, note: str = "") -> None:
    """Displays an animated SVG, which needs no script.

    Args:
        svg: From ``surface_plots.animation``.
        caption: What it shows, in a few words; also its alternative text.
        note: What its marks mean, in sentences.
    """
    _show_picture(svg, caption, f"{_sentence(caption)} {note}".rstrip(), kind="svg+xml")


def show_statements(topic: str, profile: str = "full") -> None:
    """Displays a topic's statements with the words that they get by the runs of a profile.

    Args:
        topic: The topic's name, such as ``lecture_statements``.
        profile: ``full`` or ``quick``; in the quick profile, too few seeds decide nothing.

    Raises:
        ValueError: There is no such topic, or it has no statements.
    """
    known = {name: found for name, found in TOPICS.items() if found.statements}
    if topic not in known:
        raise unknown_name("topic", topic, known)
    statements = known[topic].statements
    studies = dict.fromkeys(CLAIMS[key].study for statement in statements for key in statement.claims)
    root = output_root(profile)
    verdicts = [results_of(get_study(study, profile), root).verdicts for study in studies]
    _show_markdown(statements_table(statements, {key: v for found in verdicts for key, v in found.items()}))


def _say_pending(results: RecordedStudy[Any], kind: str, name: str, known: Mapping[str, object]) -> None:
    """Says that a table or figure waits for runs; it is unknown if no run is missing."""
    if not results.missing:
        raise unknown_name(kind, name, known)
    print(f"no run yet: {name}")


def _show_markdown(table: pd.DataFrame) -> None:
    display(Markdown(to_markdown(table)))


def _show_picture(picture: bytes, alternative: str, caption: str, kind: str = "png") -> None:
    """Displays a picture with its caption below; as HTML, since Jupyter has no alternative text for an image."""
    source = f"data:image/{kind};base64,{b64encode(picture).decode()}"
    image = f'<img src="{source}" alt="{html.escape(_sentence(alternative))}" width="{_FIGURE_WIDTH}">'
    display(HTML(f"<p>{image}<br>\n<em>{html.escape(unbroken(caption))}</em></p>"))


def _sentence(words: str) -> str:
    """The words with a capital letter and a full stop."""
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith('.') else '.'}"
