"""Docker is asked for its networks once, and all who need the list are given it."""

import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_network

import pytest

from cluster.dockerd import EngineUnavailable
from cluster.engine import Event, ListedNetwork, read_listed
from cluster.listing import Listing
from cluster.subnets import Subnets
from store.interface import StoreUnavailable
from tests.lab.commands import wait_until


class Engine:
    def __init__(self) -> None:
        self.subnets: list[str] = []
        self.away = False
        self.asked = 0

    def listed(self) -> list[ListedNetwork]:
        self.asked += 1
        if self.away:
            raise EngineUnavailable("away")
        config = [{"Subnet": subnet} for subnet in self.subnets]
        return [read_listed({"Id": "n1", "Name": "lan", "Driver": "macvlan", "IPAM": {"Config": config}})]


class Reader:
    """Fails for as often as it is told to."""

    def __init__(self, fails: type[Exception] = StoreUnavailable) -> None:
        self.seen: list[tuple[int, float]] = []
        self.failures, self._fails = 0, fails

    def networks(self, listed: Sequence[ListedNetwork], as_of: float) -> None:
        self.seen.append((len(listed), as_of))
        if self.failures:
            self.failures -= 1
            raise self._fails("away")


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def readers() -> list[Reader]:
    return [Reader(), Reader(ValueError), Reader()]


@pytest.fixture
def subnets() -> Subnets:
    return Subnets(lambda: [ip_network("10.225.0.0/24")])


@pytest.fixture
def listing(
    engine: Engine, readers: list[Reader], subnets: Subnets, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Listing]:
    monkeypatch.setattr("cluster.listing.AGAIN", 0.05)
    worker = Listing(engine, [subnets, *readers], iter(range(1, 100)).__next__)
    worker.start()
    yield worker
    worker.stop()


def await_others(subnets: Subnets, *wanted: str) -> None:
    wait_until("Docker's subnets", lambda: {*map(str, subnets.others())} == {*wanted}, timeout=5, every=0.01)


def network_event(action: str) -> Event:
    return Event("network", action, "n1", {}, 0)


def test_the_list_is_read_when_networks_come_and_go(engine: Engine, listing: Listing, subnets: Subnets) -> None:
    engine.subnets = ["10.224.0.0/24", "10.225.0.0/24", "fd00::/64"]
    listing.resync()
    await_others(subnets, "10.224.0.0/24", "fd00::/64")
    engine.subnets = ["10.226.0.0/24"]
    listing.event(network_event("create"))
    await_others(subnets, "10.226.0.0/24")
    engine.subnets = []
    listing.event(network_event("destroy"))
    await_others(subnets)


def test_one_question_does_for_all(engine: Engine, listing: Listing, readers: list[Reader]) -> None:
    listing.event(network_event("create"))
    wait_until("all to be told", lambda: all(reader.seen for reader in readers), timeout=5, every=0.01)
    listing.event(network_event("connect"))
    listing.event(Event("container", "create", "c1", {}, 0))
    time.sleep(0.1)
    assert engine.asked == 1
    assert [reader.seen for reader in readers] == [[(1, 1)]] * 3


def test_the_list_is_asked_for_again_for_who_lacked_the_store(listing: Listing, readers: list[Reader]) -> None:
    first, second, last = readers
    first.failures = 2
    second.failures = 1  # a mistake of its own, which the next list may not make
    listing.event(network_event("create"))
    wait_until("three lists", lambda: len(last.seen) == 3, timeout=5, every=0.01)
    time.sleep(0.1)
    assert [reader.seen for reader in readers] == [[(1, 1), (1, 2), (1, 3)]] * 3


def test_what_was_seen_stays_while_docker_is_away(engine: Engine, listing: Listing, subnets: Subnets) -> None:
    engine.subnets = ["10.224.0.0/24"]
    listing.resync()
    await_others(subnets, "10.224.0.0/24")
    engine.away, engine.subnets = True, ["10.226.0.0/24"]
    listing.event(network_event("create"))
    time.sleep(0.1)
    assert [str(subnet) for subnet in subnets.others()] == ["10.224.0.0/24"]
    engine.away = False
    await_others(subnets, "10.226.0.0/24")
