"""A sign of life for a person who waits."""

import sys
from contextlib import AbstractContextManager, nullcontext


def waiting(what: str) -> AbstractContextManager[object]:
    """On stderr, and only where that is a terminal."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console
    from rich.text import Text

    return Console(stderr=True).status(Text(f"{what} ..."))
