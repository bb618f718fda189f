"""The store in one SQLite file: shared truth of a host that is alone, and the durable journal of every host.

What `commit` has acknowledged survives a kill and a power cut (write-ahead log, synchronous=FULL). Threads that commit
at the same time share one transaction and so one fsync: whoever gets the write lock first writes for all who queued.

Each commit has a number, which is the version of the keys it wrote; `log` says which keys each of the last commits
changed. So a watcher, also one in another process, sees in one short look whether its prefix is concerned."""

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from store.interface import Change, Entry, Put, Snapshot, StoreUnavailable
from store.rules import MAX_BYTES, check_changes, check_key, check_prefix, differs, holds

LOCK_TIMEOUT = 5.0  # seconds to wait for another process
LOOK = 0.5  # seconds between looks for what other processes wrote
LOG_KEPT = 4096  # commits; whoever waits from further back is answered at once
TRIM_EVERY = 256  # commits

# Keys are bytes, because then the range of a prefix is exact: 0xff occurs in no UTF-8 text.
SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (version INTEGER, key BLOB, PRIMARY KEY (version, key)) WITHOUT ROWID;
INSERT INTO log SELECT 1, x'' WHERE NOT EXISTS (SELECT * FROM log);
"""
IN_PREFIX = "key >= :first AND key < :beyond"
UNCHANGED_UNTIL = f"""
SELECT newest FROM (SELECT (SELECT min(version) FROM log) AS oldest, (SELECT max(version) FROM log) AS newest)
WHERE :after BETWEEN oldest AND newest AND NOT EXISTS (SELECT * FROM log WHERE version > :after AND {IN_PREFIX})
"""  # noqa: S608 - made of constants

REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_BUSY: f"another process has kept it locked for {LOCK_TIMEOUT:g} s",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database",
    sqlite3.SQLITE_READONLY: "the file cannot be written",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
}


@dataclass(slots=True)
class _Turn:
    """One caller's changes in the queue; the outcome is there once somebody has written for it."""

    changes: tuple[Change, ...]
    outcome: bool | StoreUnavailable | None = None


class SqliteStore:
    """Safe for many threads of this process and for other processes that open the same file."""

    def __init__(self, path: Path | str, most_bytes: float = MAX_BYTES) -> None:
        """Open or make the file (mode 0600) and its directory. StoreUnavailable when that cannot be done. `most_bytes`
        bounds a commit (store.rules)."""
        self._path, self._most_bytes = Path(path), most_bytes
        self._closed = False
        self._queue: list[_Turn] = []
        self._is_writing = False
        self._written = threading.Condition()  # guards the queue, and says when a transaction has ended
        self._reading, self._bells_lock = threading.Lock(), threading.Lock()
        self._bells: list[tuple[str, threading.Event]] = []  # prefix waited for, what to ring when it changes
        with self._errors_told():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            self._file = _file(self._path)
            self._writer = _connect(self._path)
            try:
                _prepare(self._writer)
                self._reader = _connect(self._path)
            except BaseException:
                self._writer.close()
                raise

    def get(self, key: str) -> Entry | None:
        check_key(key)
        with self._errors_told(), self._reading:
            row = self._reader.execute("SELECT value, version FROM entries WHERE key = ?", [key.encode()]).fetchone()
        return Entry(*row) if row else None

    def read(self, prefix: str) -> Snapshot:
        check_prefix(prefix)
        with self._errors_told(), self._reading, _transaction(self._reader, "BEGIN"):
            version = _newest(self._reader)
            rows = self._reader.execute(
                f"SELECT key, value, version FROM entries WHERE {IN_PREFIX} ORDER BY key",  # noqa: S608 - constant
                _range(prefix),
            ).fetchall()
        return Snapshot({key.decode(): Entry(value, at) for key, value, at in rows}, version)

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        check_prefix(prefix)
        deadline = time.monotonic() + timeout
        with self._bell(prefix) as bell:
            while (unchanged := self._unchanged_until(prefix, after)) and (left := deadline - time.monotonic()) > 0:
                after = unchanged
                bell.wait(min(left, LOOK))
                bell.clear()
        return self.read(prefix)

    def commit(self, *changes: Change) -> bool:
        check_changes(changes, self._most_bytes)
        turn = _Turn(changes)
        with self._written:
            self._insist_open()
            self._queue.append(turn)
            self._written.wait_for(lambda: turn.outcome is not None or not self._is_writing)
            batch = self._take_queue() if turn.outcome is None else []
        if batch:
            self._write_for(batch)
        if isinstance(turn.outcome, bool):
            return turn.outcome
        raise StoreUnavailable(str(turn.outcome))

    def close(self) -> None:
        """End every wait under way; any later call raises StoreUnavailable."""
        with self._written:
            self._closed = True
            self._written.wait_for(lambda: not self._is_writing)
            self._writer.close()
        with self._reading:
            self._reader.close()
        with self._bells_lock:
            for _, bell in self._bells:
                bell.set()

    def _insist_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"store {self._path}: it is closed")

    def _insist_there(self) -> None:
        """What is written into a file that has no name any more is gone when it is closed."""
        if _file(self._path) != self._file:
            raise FileNotFoundError(errno.ENOENT, "the file was deleted or replaced while it was open")

    def _take_queue(self) -> list[_Turn]:
        """Become the one who writes, for everybody in the queue."""
        self._is_writing = True
        batch, self._queue = self._queue, []
        return batch

    def _write_for(self, batch: list[_Turn]) -> None:
        """Carry out every turn, in order, in one transaction; each turn gets its outcome."""
        touched: set[str] = set()
        outcomes: list[bool | StoreUnavailable] = [StoreUnavailable(f"store {self._path}: interrupted")] * len(batch)
        try:
            with self._errors_told():
                self._insist_there()
                with _transaction(self._writer, "BEGIN IMMEDIATE"):
                    won = [self._apply(turn.changes, touched) for turn in batch]
            outcomes = [*won]
        except StoreUnavailable as error:
            outcomes = [error] * len(batch)
        finally:
            with self._written:
                for turn, outcome in zip(batch, outcomes, strict=True):
                    turn.outcome = outcome
                self._is_writing = False
                self._written.notify_all()
        self._ring(touched)

    def _apply(self, changes: tuple[Change, ...], touched: set[str]) -> bool:
        standing = {change.key: self._standing(change.key) for change in changes}
        if not all(holds(change, standing[change.key]) for change in changes):
            return False
        effective = [change for change in changes if differs(change, standing[change.key])]
        if effective:
            version = _newest(self._writer) + 1
            for change in effective:
                self._write(change, version)
                touched.add(change.key)
            if version % TRIM_EVERY == 0:
                self._writer.execute("DELETE FROM log WHERE version <= ?", [version - LOG_KEPT])
        return True

    def _standing(self, key: str) -> Entry | None:
        row = self._writer.execute("SELECT value, version FROM entries WHERE key = ?", [key.encode()]).fetchone()
        return Entry(*row) if row else None

    def _write(self, change: Change, version: int) -> None:
        key = change.key.encode()
        if isinstance(change, Put):
            self._writer.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", [key, change.value, version])
        else:
            self._writer.execute("DELETE FROM entries WHERE key = ?", [key])
        self._writer.execute("INSERT INTO log VALUES (?, ?)", [version, key])

    def _unchanged_until(self, prefix: str, after: int) -> int | None:
        """The newest version, if nothing under `prefix` has changed since `after`; None if it has or may have."""
        with self._errors_told(), self._reading:
            row = self._reader.execute(UNCHANGED_UNTIL, {"after": after, **_range(prefix)}).fetchone()
        return int(row[0]) if row else None

    @contextmanager
    def _bell(self, prefix: str) -> Iterator[threading.Event]:
        """An event that is set whenever this process changes something under `prefix`."""
        entry = (prefix, threading.Event())
        with self._bells_lock:
            self._bells.append(entry)
        try:
            yield entry[1]
        finally:
            with self._bells_lock:
                self._bells.remove(entry)

    def _ring(self, touched: set[str]) -> None:
        with self._bells_lock:
            for prefix, bell in self._bells:
                if any(key.startswith(prefix) for key in touched):
                    bell.set()

    @contextmanager
    def _errors_told(self) -> Iterator[None]:
        """Turn what SQLite and the file system raise into StoreUnavailable with a sentence."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"store {self._path}: {self._reason(error)}") from error

    def _reason(self, error: sqlite3.Error | OSError) -> str:
        if self._closed:
            return "it is closed"
        if isinstance(error, OSError):
            return error.strerror or str(error)
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of the bits are details of the same error
        return f"{REASONS[code]} ({error})" if code in REASONS else str(error)


def _file(path: Path) -> tuple[int, int] | None:
    """What tells the file from any that comes to have its name; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _connect(path: Path) -> sqlite3.Connection:
    """A connection that any one thread at a time may use, with transactions opened by us alone."""
    return sqlite3.connect(path, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    with _transaction(db, "BEGIN IMMEDIATE"):
        for statement in filter(str.strip, SCHEMA.split(";")):
            db.execute(statement)


@contextmanager
def _transaction(db: sqlite3.Connection, begin: str) -> Iterator[None]:
    db.execute(begin)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _newest(db: sqlite3.Connection) -> int:
    (version,) = db.execute("SELECT max(version) FROM log").fetchone()
    return int(version)


def _range(prefix: str) -> dict[str, bytes]:
    return {"first": prefix.encode(), "beyond": prefix.encode() + b"\xff"}
