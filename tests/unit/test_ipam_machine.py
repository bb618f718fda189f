"""The machine of tests/unit/ipam_machine.py over stores on this host; tests/contract has it over a real Consul.

A run of all tests has 1800 examples in memory, 450 on SQLite and 120 in Consul, of 16 steps: what an example costs
permits no more. In memory a third of that is Hypothesis's own; of SQLite's, a half is SQLite's, whose files are in
memory, too: an fsync to a disk makes it four times as long, and the process dies here, not the machine.
`make soak` runs more: SOAK_EXAMPLES says how many in memory, a quarter and a tenth of them on the others."""

import logging
import os
from collections.abc import Iterator
from itertools import count

import pytest

from store.interface import Store
from store.sqlite import SqliteStore
from tests.histories import run_histories
from tests.quick_disk import quick_directory
from tests.unit.ipam_hosts import restore
from tests.unit.ipam_machine import Addresses

EXAMPLES = int(os.environ.get("SOAK_EXAMPLES", "1800"))


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Thousands of outages are told of, and pytest would keep each sentence."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(max(600, EXAMPLES))
def test_no_address_has_two_owners_and_none_is_lost() -> None:
    run_histories(Addresses, EXAMPLES)


@pytest.mark.timeout(max(600, EXAMPLES))
def test_the_same_with_sqlite_as_the_clusters_store_and_as_every_hosts_disk() -> None:
    class OnDisk(Addresses):
        """Files that have been used are emptied and used again: to make one takes as long as many steps."""

        def new_store(self) -> Store:
            return self.new_disk()

        def new_disk(self) -> Store:
            return shelf.pop() if shelf else SqliteStore(directory / f"{next(names)}.db")

        def put_away(self, store: Store) -> None:
            restore(store, {})
            shelf.append(store)

    names, shelf = count(), list[Store]()
    with quick_directory() as directory:
        run_histories(OnDisk, EXAMPLES // 4)
        for store in shelf:
            store.close()
