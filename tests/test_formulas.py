"""Formulas come through GitHub as they were written.

GitHub renders Markdown first and formulas second. Between single dollars its Markdown takes a backslash before
punctuation for an escape and underscores for emphasis (between double dollars it keeps the backslash). Its formulas
refuse some commands.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
UNTRACKED = {"build", "data", "dist", "env", "venv"}  # of data/ only its README is tracked
# GitHub answers "The following macros are not allowed": \mathrm and \text do instead.
REFUSED = {"operatorname", "mbox", "phantom", "hphantom", "vphantom", "def", "newcommand", "renewcommand"}
TORN = "Markdown takes a part of it for emphasis (write `_ {i}`, with a space), a list, a link, a table's cell or HTML"

MARKDOWN = MarkdownIt("commonmark").enable("table")
CODE = re.compile(r"^ {0,3}(```|~~~).*?^ {0,3}\1[^\n]*$|(`+)(?!`).+?(?<!`)\2(?!`)", re.DOTALL | re.MULTILINE)
FORMULA = re.compile(r"\$\$.*?\$\$|(?<!\\)\$[^$\n]+\$", re.DOTALL)
EMPTY_ABOVE = re.compile(r"(\A|\n[ \t]*\n)[ \t]*\Z")
EMPTY_BELOW = re.compile(r"[ \t]*(\Z|\n[ \t]*(\n|\Z))")
ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")


@dataclass(frozen=True)
class Formula:
    """A formula, dollars included, and the text on both sides of it."""

    source: str
    line: int
    before: str
    after: str

    @property
    def display(self) -> bool:
        return self.source.startswith("$$")


def markdown_files() -> list[Path]:
    folders = [path for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."]
    nested = [path for folder in folders if folder.name not in UNTRACKED for path in folder.rglob("*.md")]
    return sorted([*ROOT.glob("*.md"), ROOT / "data" / "README.md", *nested])


def markdown_cells(twin: str) -> str:
    """The Markdown cells of a notebook's text twin; every other line is left empty, so that line numbers stay."""
    lines, inside = [], False
    for line in twin.splitlines():
        if line.startswith("# %%"):
            inside, line = "[markdown]" in line, ""
        lines.append(re.sub("^# ?", "", line) if inside else "")
    return "\n".join(lines)


def documents() -> dict[str, str]:
    texts = {path: path.read_text(encoding="utf-8") for path in markdown_files()}
    twins = sorted((ROOT / "notebooks").glob("*.py"))
    texts |= {path: markdown_cells(path.read_text(encoding="utf-8")) for path in twins}
    return {path.relative_to(ROOT).as_posix(): text for path, text in texts.items()}


DOCUMENTS = documents()


def blanked(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def formulas(text: str) -> list[Formula]:
    text = blanked(CODE, text)
    return [
        Formula(match.group(), text.count("\n", 0, match.start()) + 1, text[: match.start()], text[match.end() :])
        for match in FORMULA.finditer(text)
    ]


def rendered(text: str) -> str:
    """The text that Markdown leaves, with a control character wherever it put a tag."""
    paragraphs = [token.children or [] for token in MARKDOWN.parse(text) if token.type == "inline"]
    kept = {"text", "text_special"}
    return "\0".join(
        "".join("\n" if part.type == "softbreak" else part.content if part.type in kept else "\0" for part in parts)
        for parts in paragraphs
    )


def torn(found: list[Formula], page: str) -> list[Formula]:
    """The formulas that Markdown does not leave in one piece; escapes are judged by themselves."""
    expected = [ESCAPE.sub(r"\1", re.sub(r"\n[ \t]+", "\n", formula.source)) for formula in found]
    wanted = Counter(expected)
    return [formula for formula, source in zip(found, expected, strict=True) if page.count(source) < wanted[source]]


def balanced(source: str) -> bool:
    depth = 0
    for brace in re.findall(r"[{}]", re.sub(r"\\.", "", source)):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def faults(formula: Formula) -> Iterator[str]:
    escapes = ESCAPE.search(formula.source)
    if escapes and not formula.display:
        yield f"Markdown eats the backslash of {escapes.group()}: write \\lbrace, \\lVert, \\thinspace and the like"
    for name in sorted(set(re.findall(r"\\([A-Za-z]+)", formula.source)) & REFUSED):
        yield f"GitHub refuses \\{name}: write \\mathrm or \\text"
    if not balanced(formula.source):
        yield "its braces are not balanced"
    if formula.display:
        if not (EMPTY_ABOVE.search(formula.before) and EMPTY_BELOW.match(formula.after)):
            yield "a formula between double dollars needs an empty line before and after it"
    elif re.search(r"[\w-]\Z", formula.before) or re.match(r"\w", formula.after):
        yield "a dollar next to a letter, a digit or a hyphen does not open or close a formula"
    elif re.search(r"^\$\s|\s\$$", formula.source):
        yield "a dollar with a space inside does not open or close a formula"


def problems(text: str) -> list[str]:
    """One line for each thing that GitHub would not show as it was written."""
    found = formulas(text)
    said = [f"{formula.line}: {formula.source}: {fault}" for formula in found for fault in faults(formula)]
    said += [f"{formula.line}: {formula.source}: {TORN}" for formula in torn(found, rendered(text))]
    left = blanked(FORMULA, blanked(CODE, text)).splitlines()
    lone = [number for number, line in enumerate(left, 1) if re.search(r"(?<!\\)\$", line)]
    return said + [f"{number}: a dollar without a partner in its line" for number in lone]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_formulas_survive_github(name: str):
    assert problems(DOCUMENTS[name]) == []


def test_documents_and_formulas_are_found():
    assert {"README.md", "coursework_report.md", "CHANGELOG.md", "data/README.md"} <= set(DOCUMENTS)
    assert len([name for name in DOCUMENTS if name.startswith("notebooks/")]) >= 5
    assert len(formulas(DOCUMENTS["coursework_report.md"])) > 100
    assert not [name for name in DOCUMENTS if not DOCUMENTS[name].strip()]


@pytest.mark.parametrize(
    "text",
    [
        r"The set $C = \lbrace v : \lVert v \rVert \ge 0 \rbrace$ and ($c < \tau$), then $g'_t = w \thinspace g_t$.",
        "Above.\n\n$$a = (1 - b)\\, c_1, \\qquad\n  {} + \\{ d_2 \\}$$\n\nBelow.",
        "$$\n\\begin{aligned}\na &= b_1 \\\\\n&= c_1\n\\end{aligned}\n$$",
        "| a | b |\n| --- | --- |\n| $x_1$ | $y_1$ |",
        r"A price of \$5, and `$HOME` or ``a`$x``.",
        "```\nprice $5\n```",
    ],
)
def test_sound_formulas_pass(text: str):
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (r"The set $\{ v \}$.", "backslash"),
        (r"Half of $w\, g$.", "backslash"),
        (r"The norm $\|g\|$.", "backslash"),
        ("| a |\n| --- |\n| $\\times\\, 1$ |", "backslash"),
        (r"The product $(a)_{i} (b)_{j}$ of two.", "emphasis"),
        (r"The $x_1$ and $(a)_{i} x_1$ and $(b)_{j}$ of three.", "emphasis"),
        (r"The product $a *b* c$.", "emphasis"),
        ("Between $a <b and c> d$.", "HTML"),
        ("The map $[a](b)$.", "link"),
        ("| a |\n| --- |\n| $|x|$ |", "cell"),
        ("A sum\n\n$$a\n - b$$\n\nof two.", "list"),
        ("A sum\n\n$$a\n= b\n=\nc$$\n\nof two.", "list"),
        (r"The $\operatorname{softmax}(z)$.", r"\operatorname"),
        ("Here\n\n$$\\operatorname{dist}(v)$$\n\nis it.", r"\operatorname"),
        (r"A $\frac{a}{b$ cut.", "braces"),
        ("A $}a{$ turned.", "braces"),
        ("Text\n$$a = b$$\n\nText.", "empty line"),
        ("Text\n\n$$a = b$$\nText.", "empty line"),
        ("The x$y$.", "next to"),
        ("The $n$th.", "next to"),
        ("The $ n $.", "space"),
        ("The $a and no more.", "partner"),
        ("The $a =\nb$ of two lines.", "partner"),
    ],
)
def test_planted_faults_are_found(text: str, fault: str):
    found = problems(text)
    assert found
    assert all(fault in problem for problem in found)


def test_planted_fault_in_a_notebook_is_found_at_its_line():
    twin = "# %% [markdown]\n# # Title\n#\n# The set $\\{ v \\}$.\n\n# %%\n# a comment with $5\nprice = '$'\n"
    (problem,) = problems(markdown_cells(twin))
    assert problem.startswith("4: ")
    assert "backslash" in problem
