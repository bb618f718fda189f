"""Endpoints are durable when the call returns, and no call waits for another endpoint's disk."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from driver.journal import Journal
from driver.model import Endpoint
from store.interface import Change
from store.memory import MemoryStore
from store.sqlite import SqliteStore


def endpoint(number: int) -> Endpoint:
    return Endpoint(f"e{number}", "n1", (ip_address(f"10.240.0.{number}"),), "02:00:00:00:00:05")


class SlowDisk(MemoryStore):
    """Keeps whoever writes the first endpoint waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.works = threading.Event(), threading.Event()

    def commit(self, *changes: Change) -> bool:
        if changes[0].key == "endpoints/e1":
            self.reached.set()
            assert self.works.wait(5)
        return super().commit(*changes)


def test_nobody_waits_for_another_endpoints_disk() -> None:
    disk = SlowDisk()
    journal = Journal(disk)
    other = next(n for n in range(2, 99) if journal._lock_of(f"e{n}") is not journal._lock_of("e1"))
    with ThreadPoolExecutor() as pool:
        try:
            waiting = pool.submit(journal.put_endpoint, endpoint(1))
            assert disk.reached.wait(5)
            pool.submit(journal.put_endpoint, endpoint(other)).result(1)
            assert pool.submit(journal.all_endpoints).result(1) == [endpoint(other)]  # the first is not durable yet
            assert pool.submit(journal.networks).result(1) == []
        finally:
            disk.works.set()
        waiting.result(5)
    assert set(journal.all_endpoints()) == {endpoint(1), endpoint(other)}


def test_what_many_threads_put_and_remove_is_there_after_a_crash(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "journal.db")
    journal = Journal(store)

    def come_and_go(number: int) -> None:
        for sandbox in ("", "s1", "s2"):
            journal.put_endpoint(replace(endpoint(number), sandbox=sandbox))
        if number % 2:
            journal.remove_endpoint(f"e{number}")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(come_and_go, list(range(1, 41)) * 2))
    again = Journal(SqliteStore(tmp_path / "journal.db"))
    expected = {replace(endpoint(number), sandbox="s2") for number in range(2, 41, 2)}
    assert set(journal.all_endpoints()) == set(again.all_endpoints()) == expected
