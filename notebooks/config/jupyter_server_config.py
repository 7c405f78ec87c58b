"""Settings of the Jupyter server for these notebooks: running and saving one does not change its header.

Jupyter writes into a notebook's header which Python ran it and what its kernel is called. Both depend on the machine,
so an unchanged notebook, run again on another one, would differ in git. ``make setup`` copies this file into the
environment, where Jupyter finds it. Elsewhere: ``jupyter lab --config notebooks/config/jupyter_server_config.py``.
"""

import json
from pathlib import Path


def keep_header(model, path, contents_manager, **_):
    """Before a notebook is saved: takes kernel and language from the file that it replaces, unless they were changed."""
    saved = Path(contents_manager.root_dir, path.strip("/"))
    if model["type"] != "notebook" or saved.suffix != ".ipynb" or not saved.is_file():
        return
    old, new = json.loads(saved.read_text(encoding="utf-8"))["metadata"], model["content"]["metadata"]
    for key in ("kernelspec", "language_info"):
        if old.get(key, {}).get("name") == new.get(key, {}).get("name"):
            new.update({key: old[key]} if key in old else {})


if "get_config" in globals():  # Jupyter provides it when it reads this file as its configuration
    get_config().ContentsManager.pre_save_hook = keep_header  # noqa: F821
