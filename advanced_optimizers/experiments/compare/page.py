"""The page of a comparison: one HTML file with figures, tables, source and records in it, which needs no script."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from advanced_optimizers.experiments.compare.archive import archived
from advanced_optimizers.experiments.compare.comparison import Comparison
from advanced_optimizers.experiments.compare.words import notes, sentences, tuned, warnings
from advanced_optimizers.experiments.evidence.contests import ruling_rule
from advanced_optimizers.experiments.evidence.tunings import score
from advanced_optimizers.experiments.report.figures.style import HOUSE_STYLE

# The figures of a comparison that the page shows, in this order, by the end of their names.
_SHOWN = ("forest", "trials", "rates", "learning-curves", "targets")
_STYLE = """
body { font: 16px/1.5 "DejaVu Sans", Verdana, sans-serif; color: #1a1a1a; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.verdict { font-size: 1.1rem; margin: .4rem 0; } .facts, figcaption, .quiet { color: #555; font-size: .85rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; margin: .5rem 0; }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; }
figure { margin: 1.5rem 0; } figure svg { max-width: 100%; height: auto; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: .8rem; } li { margin: .3rem 0; }
"""
_SORT = """
for (const head of document.querySelectorAll("th")) head.onclick = () => {
  const body = head.closest("table").tBodies[0], place = head.cellIndex;
  const value = row => row.cells[place].textContent, number = row => parseFloat(value(row));
  const rows = [...body.rows].sort((a, b) => (number(b) - number(a)) || value(a).localeCompare(value(b)));
  body.append(...rows);
};
"""


def render(comparison: Comparison) -> str:
    """The page as HTML; the same runs give the same bytes."""
    title = f"{', '.join(comparison.names[c] for c in comparison.plan.contenders)} on {comparison.shown_task}"
    parts = [
        f"<h1>{escape(f'Is {title} better than {_anchors(comparison)}?')}</h1>",
        *(f'<p class="verdict">{escape(line)}</p>' for line in sentences(comparison)),
        f'<p class="facts">{escape(_facts(comparison))}</p>',
        _table(comparison.table().reset_index().to_dict("records")),
        *_figures(comparison),
        "<h2>How it was tuned</h2>",
        f"<p>{escape(_protocol(comparison))}</p>",
        _table(tuned(comparison)),
        _details("All trials", _table(_trials(comparison))),
        "<h2>What could be wrong</h2>",
        _list([*warnings(comparison), *comparison.facts.said, *notes(comparison), _not_paired(comparison)]),
        _details("How a verdict is reached", f"<p>{escape(_rule(comparison))}</p>"),
        *_preflight(comparison),
        *(f"<h2>{escape(file)}</h2><pre>{escape(text)}</pre>" for file, text in comparison.facts.sources.items()),
        *_command(comparison),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>\n'
        + "\n".join(parts)
        + f'\n<script type="application/json" id="comparison">{archived(comparison)}</script>'
        + f"<script>{_SORT}</script></body></html>\n"
    )


def _anchors(comparison: Comparison) -> str:
    return " or ".join(comparison.names[anchor] for anchor in comparison.plan.anchors)


def _facts(comparison: Comparison) -> str:
    """When, with what and on what the runs were recorded."""
    environments = [record.environment for record in comparison.records.by_id.values()]

    def seen(key: str) -> str:
        return ", ".join(sorted({str(env[key]) for env in environments if env.get(key)}))

    days = sorted({str(env["started_at"])[:10] for env in environments})
    own = [name.removeprefix("user:") for name in comparison.plan.algorithms if ":" in name]
    commits = ", ".join(sorted({str(env["git_commit"])[:10] for env in environments if env.get("git_commit")}))
    return (
        f"{len(environments)} runs, recorded {' to '.join(dict.fromkeys((days[0], days[-1])))} on "
        f"{seen('device_name')} with torch {seen('torch')}, Python {seen('python')}, advanced-optimizers "
        f"{seen('package_version')}{f' at {commits}' if commits else ''}{f'; code {chr(44).join(own)}' if own else ''}."
    )


def _protocol(comparison: Comparison) -> str:
    protocol = comparison.plan.protocol
    task = protocol.task
    halving = ", then ".join(f"{rung.trials} for {rung.epochs} epochs" for rung in protocol.rungs)
    trials = f"halving over whole schedules ({halving})" if halving else f"{protocol.trials} trials of full length"
    return (
        f"Each algorithm is tuned {protocol.tunings} times, with {trials} at points of a Sobol sequence; the choice is "
        f"by validation accuracy, on a tenth of the training images. {protocol.runs} runs follow each choice, with "
        f"seeds that no trial has, for {task.epochs} epochs in batches of {task.batch_size}; the test set is used "
        "once, at the last epoch. What is compared is the mean of a tuning's runs. Untuned runs, one for each tuning, "
        "have the values of the constructor; nothing is judged by them."
    )


def _rule(comparison: Comparison) -> str:
    margin = comparison.plan.protocol.margin
    return ruling_rule("none here" if margin is None else f"{100 * margin:g} points")


def _not_paired(comparison: Comparison) -> str:
    return "algorithms are not paired by seed: in earlier runs, that gave nothing"


def _figures(comparison: Comparison) -> Iterable[str]:
    for name, figure in comparison.results.figures.items():
        if name.endswith(_SHOWN):
            yield f"<figure>{svg_of(figure.draw())}<figcaption>{escape(figure.full_caption)}</figcaption></figure>"


def svg_of(figure: Figure) -> str:
    """A figure as SVG to be put into HTML, with text as text."""
    drawn = io.StringIO()
    with plt.rc_context({**HOUSE_STYLE, "svg.fonttype": "none", "svg.hashsalt": "compare"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    text = drawn.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)


def _trials(comparison: Comparison) -> list[dict[str, str]]:
    return [
        {
            "algorithm": comparison.names[name],
            "study": str(number),
            **{"hyperparameters": ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                                            for key, value in trial.config.hyperparameters.items())},
            "validation accuracy (%)": f"{100 * score(trial):.2f}",
            "status": "unlearnt" if trial.unlearnt and trial.status == "completed" else trial.status,
            "chosen": "yes" if trial.config.hyperparameters == tuning.chosen else "",
        }
        for name in comparison.plan.algorithms
        for number, tuning in enumerate(comparison.tunings[name], start=1)
        for trial in tuning.trials
    ]  # fmt: skip


def _preflight(comparison: Comparison) -> list[str]:
    flights = comparison.facts.preflights
    rows = [{"algorithm": comparison.names[name], "before training": flights[name].words} for name in flights]
    return ["<h2>Before training</h2>", _table(rows)] if rows else []


def _command(comparison: Comparison) -> list[str]:
    command = comparison.facts.command
    return ["<h2>Again</h2>", f"<pre>{escape(command)}</pre>"] if command else []


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    heads = "".join(f"<th>{escape(str(head))}</th>" for head in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row.values())}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _details(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"
