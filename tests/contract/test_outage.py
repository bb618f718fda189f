"""A host, put together as `serve` does it, whose Consul dies and comes back: what others did is heard at once."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cluster import following
from cluster.directory import Directory
from cluster.following import Following
from cluster.lookout import Lookout
from cluster.watch import Watch
from plugin.parts import Parts, assemble
from plugin.settings import Settings, parse_store
from store.consul import ConsulStore
from store.feed import TOPICS, Announcing
from store.interface import ABSENT, Put
from tests.consul_agent import ConsulAgent
from tests.contract.conftest import running
from tests.lab.commands import wait_until

pytestmark = pytest.mark.consul
SOON = 6.0  # seconds: two, and what a busy machine adds
PAUSE = 300.0  # as after an outage that was so long that no pause between two tries is of any use
LISTENS = (Watch, Directory, Following, Lookout)


@pytest.fixture
def agent() -> Iterator[ConsulAgent]:
    yield from running(acls=False)


@pytest.fixture
def host(agent: ConsulAgent, quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    """Of its workers only those run that listen to the store."""
    monkeypatch.setattr(following, "SHORTEST_PAUSE", PAUSE)
    monkeypatch.setattr(following, "LONGEST_PAUSE", PAUSE)
    parts = assemble(Settings(host="a", state_dir=quick_path, store=parse_store(agent.url)))
    parts.tenancy.beat()
    workers = [worker for worker in parts.agent._workers if isinstance(worker, LISTENS)]
    for worker in workers:
        worker.start()
    yield parts
    for worker in workers:
        worker.stop()
    parts.close()


def heard(host: Parts) -> set[str]:
    """The keys of all topics, as far as the host knows."""
    listening = [getattr(worker, "_following", worker) for worker in host.agent._workers if isinstance(worker, LISTENS)]
    return {key for one in listening if isinstance(one, Following) for key in one.entries() or ()}


def test_what_others_do_after_an_outage_is_heard_at_once_of_all_topics(agent: ConsulAgent, host: Parts) -> None:
    before, after = ([f"{topic}{name}" for topic in TOPICS] for name in ("before", "after"))
    with closing(Announcing(ConsulStore(agent.url, "flannelpy"), "b")) as other:
        assert other.commit(*(Put(key, b"1", ABSENT) for key in before))
        wait_until("the host to listen", lambda: heard(host) >= {*before}, timeout=10)
        agent.stop()
        time.sleep(0.5)
        agent.start()
        assert other.commit(*(Put(key, b"1", ABSENT) for key in after))
        wait_until("the host to hear of all", lambda: heard(host) >= {*after}, timeout=SOON)
