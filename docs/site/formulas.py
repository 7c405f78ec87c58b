"""Typesets every formula of the built site in Chromium, where there is one: only MathJax knows what it refuses."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
REFUSED = re.compile(
    r'data-mjx-error="([^"]*)"|<mtext mathcolor="red">(\\\w+)'
)  # an error; a command that it does not know


def browser() -> str | None:
    """The path of an installed Chromium."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def faults(folder: Path, formulas: dict[str, str], mathjax: str) -> list[str]:
    """One line for each formula that does not typeset.

    Args:
        folder: Where a page with all formulas is written.
        formulas: The page that each formula stands on, by its source with delimiters.
        mathjax: MathJax's script, relative to `folder`.
    """
    sheet = folder / "formulas.html"
    lines = "".join(f'<p id="{number}">{html.escape(source)}</p>\n' for number, source in enumerate(formulas))
    sheet.write_text(f'<meta charset="utf-8"><script src="{mathjax}"></script>\n{lines}', encoding="utf-8")
    try:
        shown = _typeset(sheet)
    finally:
        sheet.unlink()
    said = []
    for number, (source, page) in enumerate(formulas.items()):
        typeset = shown.get(str(number), "")
        error = REFUSED.search(typeset)
        if error or "<mjx-container" not in typeset:
            said.append(f"{page}: {source}: {html.unescape(error[1] or error[2]) if error else 'not typeset'}")
    return said


def _typeset(sheet: Path) -> dict[str, str]:
    """The HTML of each paragraph once MathJax has been over it; the clock of the page waits for the script's timers."""
    # Chromium refuses to run as root, as in containers, unless it is told not to isolate pages; this one is our own.
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=60000", "--dump-dom"]
    command = [browser() or BROWSERS[0], *options, sheet.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return dict(re.findall(r'<p id="(\d+)">(.*?)</p>', done.stdout, re.DOTALL))
