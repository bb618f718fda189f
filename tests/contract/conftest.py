"""Every store the contract holds for, and the real Consul servers behind two of them."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.consul import ConsulStore
from store.interface import Store
from store.memory import MemoryStore
from store.sqlite import SqliteStore
from tests.consul_agent import BINARY, MISSING, ConsulAgent, ConsulServers
from tests.quick_disk import quick_directory


def running(*, acls: bool) -> Iterator[ConsulAgent]:
    insist_on_consul()
    with quick_directory() as directory:
        agent = ConsulAgent(directory, acls=acls)
        agent.start()
        yield agent
        agent.stop()


def insist_on_consul() -> None:
    if not BINARY.exists():
        if os.environ.get("CI") or os.environ.get("LAB_REQUIRED"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)


@pytest.fixture(scope="session")
def open_agent() -> Iterator[ConsulAgent]:
    """A Consul that lets everybody do everything."""
    yield from running(acls=False)


@pytest.fixture(scope="session")
def acl_agent() -> Iterator[ConsulAgent]:
    """A Consul that lets nobody do anything without a token."""
    yield from running(acls=True)


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """As `tmp_path`, for tests of which no disk is the subject."""
    with quick_directory() as directory:
        yield directory


@pytest.fixture
def three_servers(quick_path: Path) -> Iterator[ConsulServers]:
    insist_on_consul()
    servers = ConsulServers(quick_path / "consul")
    servers.start()
    yield servers
    servers.stop()


@pytest.fixture
def root() -> str:
    """A cluster name nobody has used before."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def token(acl_agent: ConsulAgent, root: str) -> str:
    """What the documentation asks an operator to allow, and nothing more."""
    return acl_agent.token(f'key_prefix "{root}/" {{ policy = "write" }}')


@pytest.fixture
def memory_store() -> Store:
    return MemoryStore()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Store:
    return SqliteStore(tmp_path / "store.db")


@pytest.fixture
def consul_store(open_agent: ConsulAgent, root: str) -> Store:
    return ConsulStore(open_agent.url, root)


@pytest.fixture
def acl_consul_store(acl_agent: ConsulAgent, root: str, token: str) -> Store:
    return ConsulStore(acl_agent.url, root, token=token)


LOCAL_STORES = ["memory_store", "sqlite_store"]
CONSUL_STORES = [pytest.param(name, marks=pytest.mark.consul) for name in ("consul_store", "acl_consul_store")]


@pytest.fixture(params=[*LOCAL_STORES, *CONSUL_STORES])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    yield from closing(request)


@pytest.fixture(params=LOCAL_STORES)
def local_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    yield from closing(request)


def closing(request: pytest.FixtureRequest) -> Iterator[Store]:
    made: Store = request.getfixturevalue(request.param)
    yield made
    made.close()
