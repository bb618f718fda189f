"""Tells every host what changed of a topic, at a cost that does not grow with what is there.

A topic is all that stands below one prefix: `pools/`, `endpoints/` or `networks/`. Each has a feed of its own:

    feed/<topic>/log/<name>     one commit: the keys it wrote and their new values; written in the same transaction
    feed/<topic>/old/<number>   commits that were moved out of the log, oldest first
    feed/<topic>/head           the number of the newest of those

Whoever commits something of a topic adds an entry to its log, under a name that nobody else uses: so commits of
different hosts do not get into each other's way. Hosts wait for the log, which is kept short, and not for the topic.

*Order.* An entry and the keys it tells of are written by one transaction and so have one version. By version, the
entries are the history of the topic.

*Completeness.* Entries leave the log only oldest first, all of a transaction's at once, into the next page of `old`;
pages leave oldest first, too. So if the log and the pages down to some number hold an entry, they hold every later one.
A reader that finds the entry it read last (its anchor) therefore misses nothing, and one that does not reads the topic
as a whole: a reader that is new, one that was away for long, and one whose store was emptied or put back to an older
state. In such a store the anchor is missing, or is a name with another version."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from store.interface import (
    ABSENT,
    MOST_OPERATIONS,
    Change,
    Check,
    Delete,
    Entry,
    Put,
    Snapshot,
    Store,
    StoreUnavailable,
    reconnect,
)
from store.records import ENDPOINTS, NETWORKS, POOLS

FEED = "feed/"
TOPICS = (POOLS, ENDPOINTS, NETWORKS)
MAX_CHANGES = MOST_OPERATIONS - len(TOPICS)  # what a caller may use of a transaction: each topic may need an entry

MOST, LEAST = 12, 4  # entries in the log before and after some are moved
PAGES = 64  # kept
PAGE_BYTES = 150_000  # of one page's entries
PAGE_ENTRIES = MOST_OPERATIONS - 4  # beside the head, two pages and a check, in one transaction

ATTEMPTS = 5

Values = Mapping[str, bytes | None]  # None: the key is gone


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """Which commit. Versions order the entries of a log; only with its name does one say which log that is."""

    version: int
    name: str


@dataclass(frozen=True, slots=True)
class Commit:
    """An entry of the log; its version is that of the keys it tells of, but for those that had their value already."""

    mark: Mark
    told: bytes

    @property
    def values(self) -> Values:
        return decode(self.told)


def log_of(topic: str) -> str:
    return f"{FEED}{topic}log/"


class Announcing:
    """A store in front of a store, whose commits tell of what they change of each topic."""

    def __init__(self, inner: Store, host: str) -> None:
        self._inner, self._host = inner, host

    def get(self, key: str) -> Any:
        return self._inner.get(key)

    def read(self, prefix: str) -> Snapshot:
        return self._inner.read(prefix)

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        return self._inner.wait(prefix, after, timeout)

    def commit(self, *changes: Change) -> bool:
        return self._inner.commit(*changes, *filter(None, (self._telling(topic, changes) for topic in TOPICS)))

    def _telling(self, topic: str, changes: Sequence[Change]) -> Put | None:
        told = {
            change.key: change.value if isinstance(change, Put) else None
            for change in changes
            if change.key.startswith(topic) and not isinstance(change, Check)
        }
        name = f"{log_of(topic)}{self._host}-{secrets.token_hex(6)}"
        return Put(name, encode(told), ABSENT) if told else None

    def reconnect(self) -> None:
        reconnect(self._inner)

    def close(self) -> None:
        self._inner.close()


@dataclass(frozen=True, slots=True)
class News:
    """Commits in their order; with `base`, what the topic held after some of these: which, the versions say."""

    commits: Sequence[Commit]
    base: Mapping[str, Entry] | None = None


class Follower:
    """Reads what `Announcing` tells of one topic. For one thread."""

    def __init__(self, store: Store, host: str, topic: str) -> None:
        self._store, self._host, self._topic = store, host, topic
        self._log, self._old, self._head = log_of(topic), f"{FEED}{topic}old/", f"{FEED}{topic}head"
        self._seen = 0  # the version of the log when it was last read
        self._anchor: Mark | None = None
        self._crowd: Sequence[Commit] = ()  # what stood in the log then

    def follow(self, timeout: float) -> News:
        """What changed since the last call, as soon as something has, or `timeout` seconds passed. The first one, and
        any after which it is not certain what was missed, gives all that there is.

        StoreUnavailable loses nothing: the next call begins where this one did."""
        crowd, self._crowd = self._crowd, ()
        self._compact(crowd)
        log = self._store.wait(self._log, self._seen, timeout)
        standing = commits_of(log)
        missed = self._missed(self._anchor, standing)
        if missed is None:
            return self.whole()
        self._crowd = standing  # compacted by the next call: news first
        self._reached(log, [*missed, *standing])
        return News(missed)

    def whole(self) -> News:
        """All that there is, also what nobody told of."""
        for _ in range(ATTEMPTS):
            anchor = newest(commits_of(self._store.read(self._log)))
            if anchor is None:  # as long as there is none, nobody knows what was missed
                self._store.commit(Put(f"{self._log}first", encode({}), ABSENT))
                continue
            base = self._store.read(self._topic).entries
            log = self._store.read(self._log)
            standing = commits_of(log)
            missed = self._missed(anchor, standing)
            if missed is None:
                continue  # emptied, or put back to an older state, at this very moment
            self._reached(log, [*missed, *standing])
            return News(missed, base)
        raise StoreUnavailable("the store was replaced again and again while it was read")

    def _reached(self, log: Snapshot, commits: Sequence[Commit]) -> None:
        self._seen, self._anchor = log.version, newest(commits)

    def _missed(self, anchor: Mark | None, standing: Sequence[Commit]) -> list[Commit] | None:
        """The commits after the anchor, in order; None if it is not certain which these are."""
        if anchor is None:
            return None
        found = {commit.mark: commit for commit in standing}
        for page in () if anchor in found else self._pages():
            found |= {commit.mark: commit for commit in page}
            if anchor in found:
                break
        if anchor not in found:
            return None
        return [found[mark] for mark in sorted(found) if mark > anchor]

    def _pages(self) -> Iterator[Sequence[Commit]]:
        """From the newest on, as far back as there are any."""
        last, _ = self._newest_page()
        for number in range(last, 0, -1):
            page = self._store.get(f"{self._old}{number}")
            if page is None:
                return
            yield read_page(page.value)

    def _newest_page(self) -> tuple[int, int]:
        """The number of the newest page, and the key's version."""
        head = self._store.get(self._head)
        return (int(head.value), head.version) if head else (0, ABSENT)

    def _compact(self, standing: Sequence[Commit]) -> None:
        """Move the oldest entries into a page. Who wrote every twelfth does it: of many hosts that see the same log a
        few try, one of them succeeds, and where one is gone, the next one's turn comes."""
        if not any(commit.mark.name.startswith(f"{self._log}{self._host}-") for commit in standing[MOST::MOST]):
            return
        last, version = self._newest_page()
        # Read after the head: what somebody else has moved since fails this transaction, and what he moved before is
        # not in here, so no entry comes into two pages.
        standing = commits_of(self._store.read(self._log))
        if len(standing) <= MOST:
            return
        oldest = self._store.get(f"{self._old}{last + 1 - PAGES}") if last >= PAGES else None
        moved = _fitting(standing[:-LEAST])
        self._store.commit(
            Put(self._head, str(last + 1).encode(), version),
            Put(f"{self._old}{last + 1}", write_page(moved), ABSENT),
            *([Delete(f"{self._old}{last + 1 - PAGES}", oldest.version)] if oldest else []),
            *(Delete(commit.mark.name, commit.mark.version) for commit in moved),
            Check(standing[-1].mark.name, standing[-1].mark.version),  # else these are another store's by now
        )


def commits_of(log: Snapshot) -> list[Commit]:
    """In the order in which they were made."""
    commits = [Commit(Mark(entry.version, name), entry.value) for name, entry in log.entries.items()]
    return sorted(commits, key=lambda commit: commit.mark)


def newest(commits: Sequence[Commit]) -> Mark | None:
    return max((commit.mark for commit in commits), default=None)


def _fitting(commits: Sequence[Commit]) -> list[Commit]:
    """As many of the first as one page may hold, at least one."""
    fitting: list[Commit] = []
    size = 0
    for commit in commits[:PAGE_ENTRIES]:
        size += len(commit.told)
        if fitting and size > PAGE_BYTES:
            break
        fitting.append(commit)
    return fitting


def encode(told: Values) -> bytes:
    """Values are mostly JSON, but may be any bytes: each byte is one character."""
    shape = {key: value if value is None else value.decode("latin-1") for key, value in told.items()}
    return json.dumps(shape, separators=(",", ":")).encode()


def decode(told: bytes) -> Values:
    return {key: value if value is None else value.encode("latin-1") for key, value in json.loads(told).items()}


def write_page(commits: Sequence[Commit]) -> bytes:
    shape = [[commit.mark.version, commit.mark.name, commit.told.decode()] for commit in commits]
    return json.dumps(shape, separators=(",", ":")).encode()


def read_page(page: bytes) -> list[Commit]:
    return [Commit(Mark(version, name), told.encode()) for version, name, told in json.loads(page)]
