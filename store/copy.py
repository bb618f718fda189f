"""All records of one topic as the store has them: kept up to date from its feed, and compared now and then."""

import random
import time
from collections.abc import Callable, Mapping

from store.feed import Commit, Follower, News
from store.interface import Entry, Store, StoreUnavailable

COMPARE = 60.0  # seconds between two looks at everything, longer where there is much:
COMPARED_PER_SECOND = 10  # records, so that such looks cost the same however many hosts there are

Changes = Mapping[str, Entry | None]  # None: the key is gone


class Copy:
    """For one thread; the entries are for all, and none of them are ever changed in place."""

    def __init__(
        self, store: Store, host: str, topic: str, believes: Callable[[Mapping[str, Entry]], bool] = lambda _: True
    ) -> None:
        """`believes` is asked whether what was read as a whole can be so, and may ask the store."""
        self._follower, self._topic, self._believes = Follower(store, host, topic), topic, believes
        self._compare_at = float("inf")  # not before the first answer
        self.entries: Mapping[str, Entry] | None = None  # None before that

    def next(self, timeout: float) -> Changes:
        """What is otherwise than after the last call, as soon as something is, or nothing after `timeout` seconds.

        After StoreUnavailable everything is as before."""
        due, self._compare_at = self._compare_at, 0.0  # whatever breaks it, everything is read again
        left = due - time.monotonic()
        try:
            news = self._follower.follow(min(timeout, left)) if left > 0 else self._follower.whole()
        except StoreUnavailable:
            self._compare_at = due
            raise
        changes = self._taken(news)
        self._compare_at = due if news.base is None else self._next_look()
        return changes

    def _taken(self, news: News) -> Changes:
        if self.entries is not None and news.base is None and not news.commits:
            return {}
        before = self.entries or {}
        entries = dict(before if news.base is None else news.base)
        touched = {key for commit in news.commits for key in apply(commit, entries)}
        if news.base is not None:
            touched |= before.keys() | entries.keys()
            if not self._believes(entries):
                raise StoreUnavailable(f"what the store shows below {self._topic} cannot be all there is")
        self.entries = entries
        return {key: entries.get(key) for key in touched if entries.get(key) != before.get(key)}

    def _next_look(self) -> float:
        spread = random.uniform(0.8, 1.2)  # noqa: S311 spreads hosts, keeps no secret
        return time.monotonic() + max(COMPARE, len(self.entries or ()) / COMPARED_PER_SECOND) * spread


def apply(commit: Commit, entries: dict[str, Entry]) -> list[str]:
    """Make the commit's changes where they are not made yet; returns the keys it tells of.

    A key at the commit's version or beyond was read after it. One that had its value before keeps its version."""
    values = commit.values
    for key, value in values.items():
        known = entries.get(key)
        if known is not None and known.version >= commit.mark.version:
            continue
        if value is None:
            entries.pop(key, None)
        elif known is None or known.value != value:
            entries[key] = Entry(value, commit.mark.version)
    return list(values)
