"""The machine of tests/unit/ipam_machine.py over stores on this host; tests/contract has it over a real Consul.

`make soak` runs it for longer: SOAK_EXAMPLES says how many examples."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from store.interface import Store
from store.sqlite import SqliteStore
from tests.unit.ipam_machine import Addresses

EXAMPLES = int(os.environ.get("SOAK_EXAMPLES", "1000"))
STEPS = 30
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
def test_the_same_with_sqlite_as_the_clusters_store_and_as_every_hosts_disk(tmp_path: Path) -> None:
    made = iter(range(1_000_000))

    class OnDisk(Addresses):
        def new_store(self) -> Store:
            return SqliteStore(tmp_path / f"{next(made)}.db")

        def new_disk(self, name: str) -> Store:
            return SqliteStore(tmp_path / f"{next(made)}.db")

    run_state_machine_as_test(OnDisk, settings=settings(QUICK, max_examples=max(10, EXAMPLES // 100)))
