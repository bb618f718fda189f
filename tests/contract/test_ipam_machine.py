"""The machine of tests/unit/ipam_machine.py over a real Consul, in a cluster of its own for each example.

That is some 400 requests, over a plain socket."""

import logging
import os
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from store.interface import Store
from tests.consul_agent import ConsulAgent, ConsulServers
from tests.contract.plain_consul import PlainStore
from tests.histories import run_histories
from tests.unit.ipam_machine import ADDRESSES, Addresses

SOAK = int(os.environ.get("SOAK_EXAMPLES", "0"))
EXAMPLES = max(120, SOAK // 10)


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
            return PlainStore(open_agent.url, f"machine-{uuid.uuid4().hex[:12]}")

    run_histories(InConsul, EXAMPLES)


@pytest.mark.consul
@pytest.mark.skipif(not SOAK, reason="each lost leader takes five seconds: `make soak` has it")
@pytest.mark.timeout(max(600, SOAK))
def test_the_same_with_three_servers_that_lose_their_leader(three_servers: ConsulServers) -> None:
    class OnThree(Addresses):
        """Each host asks one of the three."""

        def new_store(self) -> Store:
            return self.way(0)

        def way(self, number: int) -> PlainStore:
            if number == 0:
                self.root = f"machine-{uuid.uuid4().hex[:12]}"
            return PlainStore(three_servers.agents[number % 3].url, self.root)

        @rule(frozen=st.booleans(), wanted=st.sampled_from(ADDRESSES))
        def the_leader_is_lost(self, frozen: bool, wanted: str) -> None:
            """Killed, or cut off from all while it takes itself for the leader; hosts go on meanwhile."""
            self.cluster.ways = self.cluster.ways or {name: self.way(n) for n, name in enumerate(self.hosts, start=1)}
            with three_servers.without(three_servers.leader(), frozen=frozen):
                for name in self.hosts:
                    self.give(name, None)
                    self.give(name, wanted)
            for store in (self.cluster.store, *self.cluster.ways.values()):
                store.close()  # to connect anew

        def teardown(self) -> None:
            super().teardown()
            for store in self.cluster.ways.values():
                store.close()

    run_histories(OnThree, max(10, SOAK // 500))
