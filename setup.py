"""Makes the README's links absolute for the package index, which shows it away from the files that it links to.

Everything else about the package is in pyproject.toml.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urljoin

from setuptools import setup

REPOSITORY = "https://github.com/advanced-optimizers/advanced-optimizers"
_IMAGES = (".gif", ".jpg", ".png", ".svg", ".webp")
_LINK = re.compile(
    r"""
      ^\ *```.*?^\ *``` | `[^`\n]+`                                                  # code stays as it is
    | (?P<before> \]\( | ^\[[^\]]+\]:\ + | \b(?:href|src|srcset)=" ) (?P<target>[^)\s"]+)
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


def with_absolute_links(readme: str) -> str:
    """Returns the README with links and images that lead to the repository from anywhere."""

    def absolute(match: re.Match[str]) -> str:
        target = match["target"]
        if target is None:
            return match[0]
        view = "raw" if target.lower().endswith(_IMAGES) else "blob"
        return match["before"] + urljoin(f"{REPOSITORY}/{view}/main/README.md", target)

    return _LINK.sub(absolute, readme)


if __name__ == "__main__":
    readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    setup(long_description=with_absolute_links(readme), long_description_content_type="text/markdown")
