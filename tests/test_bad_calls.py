"""Every bad call gets one error that names the argument and the value, raised by the package and not by torch."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

import advanced_optimizers
from tests.bad_calls import BadCall, bad_calls
from tests.test_rooms import rooms

PACKAGE = Path(advanced_optimizers.__file__).parent
ROWS = bad_calls()


@pytest.mark.parametrize("bad", ROWS, ids=str)
def test_a_bad_call_is_answered_by_name(bad: BadCall):
    with pytest.raises((TypeError, ValueError)) as caught:
        bad.run()
    message = str(caught.value)
    assert bad.argument in message
    assert bad.value in message
    raised_in = Path(traceback.extract_tb(caught.tb)[-1].filename)
    assert raised_in.is_relative_to(PACKAGE), f"{raised_in} raised it: {message}"


def test_no_row_stands_twice():
    names = [str(row) for row in ROWS]
    assert len(set(names)) == len(names)


def test_every_room_has_a_table():
    tables = [path.stem.removeprefix("bad_calls_") for path in Path(__file__).parent.glob("bad_calls_*.py")]
    assert [room for room in rooms(PACKAGE) if not any(table.startswith(room) for table in tables)] == []


def test_the_table_is_large():
    assert len(ROWS) >= 1000
