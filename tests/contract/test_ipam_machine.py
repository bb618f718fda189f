"""The machine of tests/unit/ipam_machine.py over a real Consul: few examples, for each is some 500 requests, in a
cluster of its own."""

import logging
import os
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from store.consul import ConsulStore
from store.interface import Store
from tests.consul_agent import ConsulAgent
from tests.unit.ipam_machine import Addresses

SOAK = int(os.environ.get("SOAK_EXAMPLES", "0"))
EXAMPLES = max(60, SOAK // 30)
QUICK = settings(deadline=None, suppress_health_check=list(HealthCheck), stateful_step_count=20, max_examples=EXAMPLES)


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.consul
@pytest.mark.timeout(max(600, SOAK))
def test_no_address_has_two_owners_and_none_is_lost_with_consul(open_agent: ConsulAgent) -> None:
    class InConsul(Addresses):
        def new_store(self) -> Store:
            return ConsulStore(open_agent.url, f"machine-{uuid.uuid4().hex[:12]}")

    run_state_machine_as_test(InConsul, settings=QUICK)
