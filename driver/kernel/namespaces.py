"""Network namespaces of containers: a thread may look from inside."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pyroute2 import netns as namespaces

T = TypeVar("T")


def within(netns: str | None, task: Callable[[], T]) -> T:
    """What `task` gives in that namespace, named or by path; None is this one. OSError if it cannot be entered."""
    if netns is None:
        return task()

    def there() -> T:
        namespaces.setns(netns, flags=0)
        return task()

    with ThreadPoolExecutor(1) as other_thread:  # a namespace is a thread's: this one's stays what it is
        return other_thread.submit(there).result()
