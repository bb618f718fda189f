"""The machine of tests/unit/ipam_machine.py over stores on this host; tests/contract has it over a real Consul.

A run of all tests has 1000 examples in memory, 250 on SQLite and 80 in Consul, of up to 30 steps (in Consul 20): what
an example costs (20, 45 and 120 ms of one core) permits no more. On SQLite that is with files in memory: an fsync to a
disk makes it four times as long, and the process dies here, not the machine.
`make soak` runs more: SOAK_EXAMPLES says how many in memory, a quarter and a tenth of them on the others."""

import logging
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from store.interface import Store
from store.sqlite import SqliteStore
from tests.unit.ipam_machine import Addresses

EXAMPLES = int(os.environ.get("SOAK_EXAMPLES", "1000"))
STEPS = 30
IN_MEMORY = Path("/dev/shm")
QUICK = settings(deadline=None, suppress_health_check=list(HealthCheck), stateful_step_count=STEPS)


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Thousands of outages are told of, and pytest would keep each sentence."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(max(600, EXAMPLES))
def test_no_address_has_two_owners_and_none_is_lost() -> None:
    run_state_machine_as_test(Addresses, settings=settings(QUICK, max_examples=EXAMPLES))


@pytest.mark.timeout(max(600, EXAMPLES))
def test_the_same_with_sqlite_as_the_clusters_store_and_as_every_hosts_disk() -> None:
    class OnDisk(Addresses):
        def new_store(self) -> Store:
            self.directory = TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None)
            self.names = count()
            return self.new_disk("")

        def new_disk(self, name: str) -> Store:
            return SqliteStore(Path(self.directory.name) / f"{next(self.names)}.db")

        def teardown(self) -> None:
            super().teardown()
            self.directory.cleanup()

    run_state_machine_as_test(OnDisk, settings=settings(QUICK, max_examples=EXAMPLES // 4))
