"""What the file adds: it outlives the process, serves a second one, and says in a sentence what is wrong with it."""

import resource
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from unittest.mock import Mock

import pytest

from store import sqlite
from store.interface import ABSENT, Put, StoreUnavailable
from store.sqlite import SqliteStore
from store.update import update
from tests.lab.commands import wait_until


@contextmanager
def other_process(path: Path, code: str) -> Iterator[subprocess.Popen[str]]:
    """A Python that has `store` open on the same file and runs `code`; killed at the end."""
    setup = f"from store.interface import *\nfrom store.sqlite import SqliteStore\nstore = SqliteStore({str(path)!r})\n"
    command = [sys.executable, "-c", setup + textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "store.db"


def test_everything_is_there_again_after_a_restart(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        store.commit(Put("a", b"1", ABSENT), Put("b", b"\0", ABSENT))
        before = store.read("")
    with closing(SqliteStore(path)) as store:
        assert store.read("") == before


def test_the_directory_is_made_and_the_file_is_for_its_owner_alone(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        store.commit(Put("a", b"1", ABSENT))
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_a_commit_is_on_the_disk_when_it_returns(path: Path) -> None:
    """SQLite's own word for it; that the word is kept in a power cut, no test without a power cut can show."""
    with closing(SqliteStore(path)) as store:
        (mode,) = store._writer.execute("PRAGMA journal_mode").fetchone()
        (synchronous,) = store._writer.execute("PRAGMA synchronous").fetchone()
        assert (mode, synchronous) == ("wal", 2)


def test_a_killed_process_loses_nothing_it_has_acknowledged(path: Path) -> None:
    code = """
        import os
        from threading import Thread
        def count(name):
            version = ABSENT
            for number in range(1_000_000):
                assert store.commit(Put(name, b"%d" % number, version))
                os.write(1, f"{name} {number}\\n".encode())
                version = store.get(name).version
        for name in "abcd":
            Thread(target=count, args=[name]).start()
    """
    acknowledged: dict[str, int] = {}
    with other_process(path, code) as process:
        assert process.stdout
        for line in process.stdout:
            name, _, number = line.partition(" ")
            acknowledged[name] = int(number)
            if sum(acknowledged.values()) > 400:
                process.kill()  # and hear what it still said before it died
    with closing(SqliteStore(path)) as store:
        for name, last in acknowledged.items():
            entry = store.get(name)
            assert entry is not None
            assert int(entry.value) in (last, last + 1)


def test_a_second_process_sees_what_the_first_wrote_and_is_heard_by_it(path: Path) -> None:
    code = """
        snapshot = store.wait("question", 1, 20)
        store.commit(Put("answer", snapshot.entries["question"].value * 2, ABSENT))
        store.wait("never", store.read("").version, 20)
    """
    with closing(SqliteStore(path)) as store, other_process(path, code):
        before = store.read("").version
        assert store.commit(Put("question", b"21", ABSENT))
        started = time.monotonic()
        assert store.wait("answer", before, 20).entries["answer"].value == b"2121"
        assert time.monotonic() - started < 15


def test_processes_do_not_overwrite_each_other(path: Path) -> None:
    code = """
        from store.update import update
        for _ in range(50):
            update(store, "count", lambda value: b"%d" % (int(value or b"0") + 1))
        print("done")
    """
    with other_process(path, code) as one, other_process(path, code) as two, closing(SqliteStore(path)) as store:
        for _ in range(50):
            update(store, "count", lambda value: b"%d" % (int(value or b"0") + 1))
        assert [process.stdout.readline() for process in (one, two) if process.stdout] == ["done\n"] * 2
        entry = store.get("count")
        assert entry is not None
        assert entry.value == b"150"


def test_threads_share_a_transaction(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one thread writes, the others queue; whoever comes next writes for all of them."""
    batches: list[int] = []
    with closing(SqliteStore(path)) as store:
        write_for = store._write_for

        def slow(batch: list[sqlite._Turn]) -> None:
            batches.append(len(batch))
            time.sleep(0.5)
            write_for(batch)

        monkeypatch.setattr(store, "_write_for", slow)
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda name: store.commit(Put(name, b"", ABSENT)), "aabcdefg"))
    assert sorted(won) == [False] + [True] * 7
    assert sum(batches) == 8
    assert len(batches) <= 3


def test_a_watcher_far_behind_is_answered_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LOG_KEPT", 20)
    monkeypatch.setattr(sqlite, "TRIM_EVERY", 10)
    with closing(SqliteStore(path)) as store:
        before = store.read("a").version
        for number in range(50):
            update(store, "b", lambda _, number=number: b"%d" % number)  # type: ignore[misc]
        started = time.monotonic()
        assert store.wait("a", before, 10).entries == {}
        assert time.monotonic() - started < 5
        (kept,) = store._reader.execute("SELECT count(*) FROM log").fetchone()
        assert kept <= 30


def test_a_watcher_that_looks_often_is_never_far_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many commits concern others, they do not end its wait."""
    monkeypatch.setattr(sqlite, "LOG_KEPT", 20)
    monkeypatch.setattr(sqlite, "TRIM_EVERY", 10)
    monkeypatch.setattr(sqlite, "LOOK", 0.01)
    with closing(SqliteStore(path)) as store, ThreadPoolExecutor(1) as pool:
        look = Mock(wraps=store._unchanged_until)
        monkeypatch.setattr(store, "_unchanged_until", look)
        waiting = pool.submit(store.wait, "a", store.read("a").version, 60)
        for number in range(60):
            looks = look.call_count
            update(store, "b", lambda _, number=number: b"%d" % number)  # type: ignore[misc]
            while look.call_count == looks and not waiting.done():
                time.sleep(0.001)
        assert not waiting.done()
        store.commit(Put("a", b"", ABSENT))
        assert waiting.result().entries.keys() == {"a"}


def test_a_watcher_in_the_same_process_is_rung_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LOOK", 30)
    with closing(SqliteStore(path)) as store, ThreadPoolExecutor(1) as pool:
        look = Mock(wraps=store._unchanged_until)
        monkeypatch.setattr(store, "_unchanged_until", look)
        waiting = pool.submit(store.wait, "a", store.read("a").version, 30)
        wait_until("the first look", lambda: look.call_count == 1, timeout=20)
        time.sleep(0.1)
        store._ring({"a"})  # in vain: it looks, finds nothing, and waits on
        wait_until("the second look", lambda: look.call_count == 2, timeout=20)
        assert not waiting.done()
        store.commit(Put("a", b"", ABSENT))
        assert waiting.result(timeout=10).entries.keys() == {"a"}


def test_a_watcher_from_a_lost_future_is_answered_at_once(path: Path) -> None:
    """Its version is from a file that has since been replaced."""
    with closing(SqliteStore(path)) as store:
        started = time.monotonic()
        assert store.wait("", 1_000_000, 10).version == 1
        assert time.monotonic() - started < 5


# What can be wrong with a file


def test_a_file_of_another_kind(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("this is a text, and long enough to be taken for a database" * 100)
    with pytest.raises(StoreUnavailable, match=r"store\.db: the file is not a SQLite database"):
        SqliteStore(path)


def test_a_damaged_file(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        for number in range(200):
            store.commit(Put(f"key/{number}", b"x" * 500, ABSENT))
    damaged = bytearray(path.read_bytes())
    damaged[8192:] = b"\xee" * (len(damaged) - 8192)
    path.write_bytes(damaged)
    with (
        pytest.raises(StoreUnavailable, match=r"store\.db: the file is damaged"),
        closing(SqliteStore(path)) as store,
    ):
        store.read("")


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StoreUnavailable, match=r"store\.db: (File exists|Not a directory)"):
        SqliteStore(tmp_path / "state" / "store.db")


def test_a_directory_in_its_place(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StoreUnavailable, match=r"store\.db: Is a directory"):
        SqliteStore(path)


def test_another_process_that_keeps_it_locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LOCK_TIMEOUT", 0.2)
    with closing(SqliteStore(path)) as store, closing(sqlite3.connect(path, isolation_level=None)) as intruder:
        intruder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="another process has kept it locked"):
            store.commit(Put("a", b"", ABSENT))
        assert store.get("a") is None, "reading goes on"
        intruder.execute("ROLLBACK")
        assert store.commit(Put("a", b"", ABSENT))


@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_written_into_a_file_that_was_deleted(path: Path, replaced: bool) -> None:
    """It would be acknowledged, and gone with the process."""
    with closing(SqliteStore(path)) as store:
        store.commit(Put("a", b"1", ABSENT))
        for file in path.parent.iterdir():
            file.unlink()
        if replaced:
            SqliteStore(path).close()
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="the file was deleted or replaced while it was open"):
                store.commit(Put("b", b"2", ABSENT))


def test_a_full_disk_undoes_the_commit_and_no_more(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        assert store.commit(Put("a", b"1", ABSENT))
        with largest_file(path.with_name("store.db-wal").stat().st_size + 20_000):
            with pytest.raises(StoreUnavailable, match=r"store\.db: (the disk is full|the disk reports an error)"):
                store.commit(Put("b", b"x" * 100_000, ABSENT))
            assert store.read("").entries.keys() == {"a"}
        assert store.commit(Put("b", b"x" * 100_000, ABSENT))


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: the nearest thing to a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_closing_while_others_commit_leaves_each_with_an_answer(path: Path) -> None:
    store = SqliteStore(path)
    closed = threading.Event()

    def commit_until_closed(name: str) -> int:
        for number in range(1_000_000):
            try:
                store.commit(Put(f"{name}/{number}", b"", ABSENT))
            except StoreUnavailable:
                assert closed.is_set()
                return number
        return -1

    with ThreadPoolExecutor(4) as pool:
        counts = [pool.submit(commit_until_closed, name) for name in "abcd"]
        time.sleep(0.2)
        closed.set()
        started = time.monotonic()
        store.close()
        assert time.monotonic() - started < 10, "those who go on committing must not hold it up"
        done = dict(zip("abcd", [count.result(timeout=30) for count in counts], strict=True))
    with closing(SqliteStore(path)) as store:
        assert {name: len(store.read(f"{name}/").entries) for name in "abcd"} == done
