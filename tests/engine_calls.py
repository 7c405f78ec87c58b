"""What the tests of engines call in other processes; it loads neither torch nor the package, which takes seconds."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def process_after(seconds: float) -> int:
    """This process's id, after a while; if that is negative, the process dies."""
    if seconds < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(seconds)
    return os.getpid()


def wait_for_go(file: Path) -> int:
    """Says by a file that it has begun, and goes on once there is a file ``go`` next to it."""
    file.write_text(str(os.getpid()))
    while not (file.parent / "go").exists():
        time.sleep(0.01)
    return os.getpid()
