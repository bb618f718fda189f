"""Packets to Consul are dropped without a word, as where a router or a firewall forgets the connection."""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from store.connections import GIVEN_UP
from store.consul import TIMEOUT, ConsulStore
from store.interface import ABSENT, Put, Snapshot, StoreUnavailable
from tests.consul_agent import ConsulAgent
from tests.contract.conftest import insist_on_consul
from tests.kernel.conftest import inside, insist_on_root
from tests.lab.commands import run
from tests.lab.namespaces import Namespace

pytestmark = pytest.mark.consul
WAIT = 60.0  # seconds a question may stay open
SLACK = 5.0  # seconds a busy machine may add


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    insist_on_root()
    made = Namespace(f"fd{uuid.uuid4().hex[:8]}")
    made.create()
    yield made
    made.delete()


def test_open_questions_end_soon_once_packets_are_dropped(namespace: Namespace, quick_path: Path) -> None:
    insist_on_consul()
    inside(namespace.name, lambda: ask_and_drop(ConsulAgent(quick_path, acls=True)))


def ask_and_drop(agent: ConsulAgent) -> None:
    """On plain and encrypted connections, and on some on which nothing was asked when it began."""
    with ExitStack() as ending:
        ending.callback(agent.stop)
        agent.start()
        environ = agent.tls_environ | {"CONSUL_HTTP_TOKEN": agent.token('key_prefix "root/" { policy = "write" }')}
        stores = [ConsulStore.from_url(url, root="root", environ=environ) for url in (agent.url, agent.tls_url)]
        for store in stores:
            ending.enter_context(closing(store))
        asking = ending.enter_context(ThreadPoolExecutor())
        assert stores[0].commit(Put("a", b"1", ABSENT))
        version = stores[0].read("").version

        def ask() -> list[Future[Snapshot]]:
            return [asking.submit(store.wait, "a", version, WAIT) for store in stores]

        open_before = ask()
        for store in stores:
            list(asking.map(store.get, ["a"] * 4))
        time.sleep(0.5)
        assert not any(one.done() for one in open_before)
        run("iptables", "-A", "INPUT", "-i", "lo", "-p", "tcp", "-j", "DROP")
        began = time.monotonic()
        failures = [one.exception(WAIT + TIMEOUT + SLACK) for one in [*open_before, *ask()]]
        assert time.monotonic() - began < GIVEN_UP + SLACK
        assert all(isinstance(failure, StoreUnavailable) for failure in failures)
        assert str(failures[0]).endswith("cannot be reached: Connection timed out")  # of TLS it is less clear
        run("iptables", "-F", "INPUT")
        assert [store.read("a").version for store in stores] == [version, version]
