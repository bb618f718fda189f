"""For all tests."""

import fcntl
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

# How long one example takes says more about what else the machine does than about us; and what `make test` says is
# to follow from what it tests, so that only `make soak` looks for examples nobody has seen.
settings.register_profile("any machine", deadline=None, derandomize="SOAK_EXAMPLES" not in os.environ)
settings.load_profile("any machine")


class Turns:
    """Between the processes of one run: tests run side by side, but for one that is to be `alone`.

    The locks are on two files that are here anyway, and end with the process. Who waits for the second one keeps the
    first: nobody starts a test before one that wants to be alone and has waited for longer."""

    def __init__(self, gate: Path, tests: Path) -> None:
        self._gate, self._tests = (os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in (gate, tests))
        self._alone = False

    def take(self, *, alone: bool) -> None:
        if alone and self._alone:
            return
        self.give()
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        fcntl.flock(self._tests, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._gate, fcntl.LOCK_UN)
        self._alone = alone

    def give(self) -> None:
        fcntl.flock(self._tests, fcntl.LOCK_UN)
        self._alone = False


TURNS = Turns(Path(__file__), Path(__file__).with_name("__init__.py"))


def is_alone(item: pytest.Item | None) -> bool:
    return is_marked(item, "alone")


def is_marked(item: pytest.Item | None, name: str) -> bool:
    return item is not None and item.get_closest_marker(name) is not None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """The first of all, so that waiting for a turn is no part of the time a test has."""
    if not is_marked(item, "patient"):  # which takes no turn: all that want to be alone would wait for minutes
        TURNS.take(alone=is_alone(item))
    try:
        return (yield)
    finally:
        if not (is_alone(item) and is_alone(nextitem)):  # several in a row need one turn
            TURNS.give()
