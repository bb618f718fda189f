"""Which hosts count as silent, so that others of the name come first: nobody for another's fault."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from cluster.reclaim import Reclaimer
from cluster.silence import Silence
from store.interface import StoreUnavailable
from tests.unit.ipam_hosts import TTL, Cluster, Host


@dataclass
class Watching:
    """Host `a`, as it watches `b` and `c`."""

    hosts: dict[str, Host] = field(default_factory=dict)

    def __post_init__(self) -> None:
        cluster = Cluster()
        self.hosts = {name: cluster.host(name) for name in "abc"}
        for host in self.hosts.values():
            host.tenancy.beat()
        self.me = self.hosts["a"]
        self.period = self.me.tenancy.period
        self.silence = Silence("a", self.period, self.me.clock)
        self.reclaimer = Reclaimer(self.me.line, "a", TTL, self.period, self.me.clock, looked=self.silence.looked)
        self.reclaimer.look()

    def wait(self, periods: int, alive: Collection[str] = "abc") -> None:
        """So many periods in which those that live beat, and `a` looks."""
        for _ in range(periods):
            for host in self.hosts.values():
                host.clock.now += self.period + 0.05  # a duty begins a moment after its time
            for name in alive:
                with suppress(StoreUnavailable):
                    self.hosts[name].tenancy.beat()
            with suppress(StoreUnavailable):
                self.reclaimer.look()

    @property
    def silent(self) -> set[str]:
        return set(self.silence.hosts())


@pytest.fixture
def watching() -> Watching:
    return Watching()


def test_a_host_that_died_is_silent_after_two_missed_beats(watching: Watching) -> None:
    watching.wait(3)
    assert watching.silent == set()
    watching.wait(1, "ac")
    assert watching.silent == set()
    watching.wait(1, "ac")
    assert watching.silent == {"b"}
    watching.wait(5, "ac")
    assert watching.silent == {"b"}


def test_a_host_that_returns_is_not_silent_from_its_next_beat_on(watching: Watching) -> None:
    watching.wait(3, "ac")
    watching.wait(1)
    assert watching.silent == set()


def test_a_host_that_tells_of_a_container_is_not_silent_at_once(watching: Watching) -> None:
    watching.wait(3, "ac")
    watching.silence.heard_of({"b", "unheard-of"})
    assert watching.silent == set()
    watching.wait(1, "ac")
    assert watching.silent == set()
    watching.wait(2, "ac")
    assert watching.silent == {"b"}


def test_a_host_with_a_longer_lease_time_beats_less_often_and_is_not_silent(watching: Watching) -> None:
    hasty = Silence("a", watching.period / 10, watching.me.clock)
    for _ in range(10):
        watching.me.clock.now += watching.period / 10
        watching.me.tenancy.beat()
        hasty.looked(watching.me.line.read("hosts/"))
    assert hasty.hosts() == frozenset()


def test_one_that_was_given_up_is_not_silent_but_gone(watching: Watching) -> None:
    watching.wait(20, "ac")
    assert watching.silent == set()


def test_without_the_store_nobody_becomes_silent_and_nobody_returns(watching: Watching) -> None:
    watching.wait(3, "ac")
    watching.me.line.cut = True
    watching.wait(5, "bc")
    assert watching.silent == {"b"}


def test_after_an_outage_of_the_store_nobody_is_silent_who_has_not_beaten_yet(watching: Watching) -> None:
    for host in watching.hosts.values():
        host.line.cut = True
    watching.wait(2)
    for host in watching.hosts.values():
        host.line.cut = False
    watching.wait(1, "a")
    assert watching.silent == set()
    watching.wait(2, "a")
    assert watching.silent == {"b", "c"}


def test_whose_own_beats_are_not_seen_blames_nobody(watching: Watching) -> None:
    """A store that shows an old state to everybody, say."""
    watching.wait(6, "")
    assert watching.silent == set()
    watching.wait(1, "a")
    assert watching.silent == {"b", "c"}


def test_time_that_nobody_watched_makes_nobody_silent(watching: Watching) -> None:
    watching.me.clock.now += 10 * watching.period
    watching.wait(1, "a")
    assert watching.silent == set()
