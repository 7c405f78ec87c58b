"""Checks the built report site: `python docs/site/check.py FOLDER`.

Sphinx's own warnings are errors already. What it does not see: links and images in raw HTML (a notebook's outputs among
them), what a page would load from a network, formulas that stayed text or that MathJax refuses, internal comments that
show, and public names without an entry.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import formulas
from pages import ROOT, modules, public_names, sources

# Attributes that make a browser load something; a link in an <a> waits for a click.
LOADING = {"src", "srcset", "data", "poster"}
UNREAD = {"script", "style", "pre", "code"}


@dataclass
class Page(HTMLParser):
    """What a page links to, loads, anchors and shows."""

    links: set[str] = field(default_factory=set)
    loads: set[str] = field(default_factory=set)
    anchors: set[str] = field(default_factory=set)
    text: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    formulas: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.loads |= {given[name] for name in LOADING & given.keys()}
        if "href" in given:
            fetched = tag == "link" and given.get("rel") not in {"index", "search", "next", "prev", "canonical"}
            (self.loads if fetched else self.links).add(given["href"])
        if "math" in given.get("class", "").split():
            self.unread.append("math " + tag)
            self.formulas.append("")
        elif tag in UNREAD:
            self.unread.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.unread and self.unread[-1].removeprefix("math ") == tag:
            self.unread.pop()

    def handle_data(self, data: str) -> None:
        if not self.unread:
            self.text.append(data)
        elif self.unread[-1] in {"script", "style"}:
            self.scripts.append(data)
        elif self.unread[-1].startswith("math "):
            self.formulas[-1] += data


def read(folder: Path) -> dict[Path, Page]:
    """The built pages by their path."""
    found = {}
    for path in sorted(folder.rglob("*.html")):
        if "_static" not in path.parts:
            found[path] = Page()
            found[path].feed(path.read_text(encoding="utf-8"))
    return found


def problems(folder: Path) -> list[str]:
    """One line for each fault, beginning with its page."""
    site = read(folder)
    said = [f"{name}: is not built" for name in ("index.html", *map(_built, sources())) if folder / name not in site]
    for path, page in site.items():
        faults = [*_broken(path, page, site), *_online(page), *_shown(page)]
        said += [f"{path.relative_to(folder)}: {fault}" for fault in faults]
    return said + _undocumented(folder, site)


def _built(source: str) -> str:
    return source.rpartition(".")[0] + ".html"


def _broken(path: Path, page: Page, site: dict[Path, Page]) -> list[str]:
    faults = []
    for link in sorted(page.links | page.loads):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not target.exists():
            faults.append(f"{link} leads nowhere")
        elif parts.fragment and target in site and unquote(parts.fragment) not in site[target].anchors:
            faults.append(f"{link}: no such anchor there")
    return faults


def _online(page: Page) -> list[str]:
    loads = [load for load in sorted(page.loads) if urlsplit(load).netloc]
    loads += re.findall(
        r"(?:@import|url\(|fetch\(|import\()\s*[\"']?((?:https?:)?//[^\s\"')]+)", "\n".join(page.scripts)
    )
    return [f"{load} would be loaded from a network" for load in loads]


def _shown(page: Page) -> list[str]:
    text = "".join(page.text)
    unset = re.findall(r"\$\$?[^$\n]*[\\_^][^$\n]*\$", text) + re.findall(r"\\\(.+?\\\)|\\\[.+?\\\]", text)
    comments = re.findall(r"<!--.{0,40}|/(?:result|claimed) -->", text)
    return [f"{formula} is not a formula" for formula in unset] + [f"{comment} shows" for comment in comments]


def _undocumented(folder: Path, site: dict[Path, Page]) -> list[str]:
    anchors = set().union(*(page.anchors for path, page in site.items() if path.parent == folder / "api"))
    names = [f"{module}.{name}" for module in modules() for name in public_names(module)]
    names += [f"advanced_optimizers.{name}" for name in public_names("advanced_optimizers._create")]
    return [f"api: {name} has no entry" for name in names if name not in anchors]


def refused(folder: Path) -> list[str]:
    """The formulas that MathJax refuses; without a browser, none is looked at, and that is said."""
    site = read(folder)
    sources = {source: path.relative_to(folder).as_posix() for path, page in site.items() for source in page.formulas}
    if formulas.browser() is None:
        print(f"no Chromium on this machine: MathJax has not been asked about {len(sources)} formulas")
        return []
    return formulas.faults(folder, sources, "_static/tex-svg-full.js")


if __name__ == "__main__":
    built = Path(sys.argv[1]).resolve()
    found = problems(built) + refused(built)
    print("\n".join(found) or f"{built.relative_to(ROOT) if built.is_relative_to(ROOT) else built}: no broken page")
    sys.exit(bool(found))
