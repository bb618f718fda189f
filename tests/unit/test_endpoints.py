"""Who is where: what a host tells the others of its containers, what it believes of theirs, and what is removed."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.directory import Directory
from cluster.dockerd import EngineUnavailable
from cluster.endpoints import AT_ONCE, LABEL_BYTES, Endpoints, difference, told_labels
from cluster.engine import EngineContainer, EngineEndpoint, Event, Glance, read_container
from cluster.names import Names, askers
from cluster.reclaim import give_up
from driver.endpoints import join_answer, resolver_route
from driver.journal import Journal
from driver.model import Endpoint, Network, StaticRoute
from driver.view import View
from names.messages import Member
from store import records
from store.codec import decode, encode
from store.feed import Announcing
from store.interface import ABSENT, Check, Delete, Entry, Put, StoreUnavailable
from store.memory import MemoryStore

HERE, THERE = "h1", "h2"
WEB, DB = ip_network("10.240.0.0/18"), ip_network("10.241.0.0/18")
RESOLVER = ip_address("169.254.53.53")
SHOP = records.Endpoint("c1", "shop", ("shop", "c1"), "web", (ip_address("10.240.0.5"),), "02:00:00:00:00:05", "nginx")
KEY = records.endpoint_key(WEB, HERE, "e1")


def network(pool: object = WEB, network_id: str = "n1") -> Network:
    pools = (ip_network(str(pool)),)
    return Network(network_id, pools, (pools[0][1],), "vxlan", 7, 8479, None, False, ())


def endpoint(
    endpoint_id: str = "e1", network_id: str = "n1", address: str = "10.240.0.5", sandbox: str = ""
) -> Endpoint:
    return Endpoint(endpoint_id, network_id, (ip_address(address),), "02:00:00:00:00:05", sandbox=sandbox)


def container(*endpoint_ids: str, name: str = "shop", container_id: str = "c1") -> EngineContainer:
    attached = tuple(EngineEndpoint(one, "web", (name, container_id)) for one in endpoint_ids)
    return EngineContainer(container_id, name, "nginx", {}, attached)


class Engine:
    def __init__(self, *containers: EngineContainer) -> None:
        self.containers = {one.id: one for one in containers}
        self.away = False
        self.asked: list[str] = []
        self.hanging: dict[str, threading.Event] = {}  # containers about which there is no answer until it is set
        self.meanwhile: Callable[[], None] = lambda: None  # what happens while a list is on its way

    def running(self) -> dict[str, Glance]:
        if self.away:
            raise EngineUnavailable("no Engine")
        seen = list(self.containers.items())
        self.meanwhile()
        return {key: Glance(frozenset({one.name}), frozenset(e.id for e in one.endpoints)) for key, one in seen}

    def container(self, container_id: str) -> EngineContainer | None:
        self.asked.append(container_id)
        if container_id in self.hanging and not self.hanging[container_id].wait(0.3):
            raise EngineUnavailable("no answer")
        if self.away:
            raise EngineUnavailable("no Engine")
        return self.containers.get(container_id)


class AwayStore(MemoryStore):
    """Can be away."""

    away = False

    def commit(self, *changes: Put | Delete | Check) -> bool:
        if self.away:
            raise StoreUnavailable("away")
        return super().commit(*changes)


class Host:
    """One host's endpoints and directory on a store; its containers are `engine`'s."""

    def __init__(self, store: AwayStore, engine: Engine, local: MemoryStore | None = None) -> None:
        self.local = local or MemoryStore()
        self.store, self.engine, self.may_hide = store, engine, False
        self.journal = Journal(self.local, lambda: self.endpoints.poke())
        self.directory = Directory(
            store, self.local, HERE, lambda: self.may_hide, [lambda hosts: self.endpoints.poke()]
        )
        self.endpoints = Endpoints(
            engine,
            self.journal,
            Announcing(store, HERE),
            HERE,
            lambda: self.directory.entries_of(HERE),
            self.fence,
            lambda: None,
        )

    def fence(self) -> Check:
        entry = self.store.get(records.host_key(HERE))
        assert entry is not None
        return Check(records.host_key(HERE), entry.version)

    def told(self) -> dict[str, records.Endpoint]:
        entries = self.store.read(records.ENDPOINTS).entries
        return {key: decode(records.Endpoint, entry.value) for key, entry in entries.items()}

    def happened(self, action: str) -> None:
        self.endpoints.event(Event("container", action, "c1", {}, 1))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.endpoints.PAUSE", 0.1)
    monkeypatch.setattr("store.copy.COMPARE", 0.2)  # what is not told is found by comparing


@pytest.fixture
def store() -> AwayStore:
    store = AwayStore()
    store.commit(Put(records.host_key(HERE), encode(records.Host("one")), ABSENT))
    return store


@contextmanager
def running(host: Host) -> Iterator[Host]:
    host.directory.start()
    host.endpoints.start()
    try:
        yield host
    finally:
        host.endpoints.stop()
        host.directory.stop()


def until(what: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_container_is_told_with_its_new_name_and_forgotten_with_its_endpoint(store: AwayStore) -> None:
    host = Host(store, Engine())
    host.journal.put_network(network())
    with running(host):
        host.journal.put_endpoint(endpoint())
        host.engine.containers["c1"] = container("e1")
        host.happened("start")
        until(lambda: host.told() == {KEY: SHOP})
        host.engine.containers["c1"] = container("e1", name="store")
        host.happened("rename")
        until(lambda: host.told().get(KEY) == replace(SHOP, name="store", names=("store", "c1")))
        host.journal.remove_endpoint("e1")  # Docker has not said anything yet
        until(lambda: not host.told())


def test_what_a_crash_left_is_removed_when_docker_was_asked(store: AwayStore) -> None:
    gone, theirs = records.endpoint_key(DB, HERE, "old"), records.endpoint_key(WEB, THERE, "e9")
    store.commit(Put(gone, encode(SHOP), ABSENT), Put(theirs, encode(SHOP), ABSENT))
    host = Host(store, Engine())
    host.engine.away = True
    with running(host):
        host.journal.put_network(network())
        time.sleep(0.3)
        assert set(host.told()) == {gone, theirs}
        host.engine.away = False
        host.endpoints.resync()
        until(lambda: set(host.told()) == {theirs})


def test_a_store_that_was_away_is_told_later(store: AwayStore) -> None:
    host = Host(store, Engine(container("e1")))
    host.journal.put_network(network())
    host.journal.put_endpoint(endpoint())
    with running(host):
        until(lambda: host.told() == {KEY: SHOP})
        store.away = True
        host.journal.remove_endpoint("e1")
        until(lambda: host.endpoints.own() == {})
        store.away = False
        until(lambda: not host.told())


def test_an_endpoint_that_somebody_removed_from_the_store_is_told_again(store: AwayStore) -> None:
    host = Host(store, Engine(container("e1")))
    host.journal.put_network(network())
    host.journal.put_endpoint(endpoint())
    with running(host):
        until(lambda: KEY in host.directory.endpoints())
        entry = store.get(KEY)
        assert entry is not None
        store.commit(Delete(KEY, entry.version))
        until(lambda: host.told() == {KEY: SHOP})


def test_labels_are_told_as_far_as_they_fit_and_ours_first() -> None:
    few = {"b": "2", "a": "1"}
    assert told_labels(few) == (("a", "1"), ("b", "2"))
    many = {f"a{number}": "x" * 300 for number in range(9)} | {"huge": "\U0001f40b" * 200, "z": ""}
    told = dict(told_labels(many | {"flannelpy.consul.service": "shop:80"}))
    assert told.keys() >= {"flannelpy.consul.service", "a0", "z"}
    assert "huge" not in told
    assert len(encode(replace(SHOP, labels=tuple(told.items())))) < len(encode(SHOP)) + LABEL_BYTES + 50


def test_a_record_of_a_host_that_tells_no_labels_is_read() -> None:
    shape = json.loads(encode(SHOP))
    del shape["labels"]
    assert decode(records.Endpoint, json.dumps(shape).encode()) == SHOP


def test_a_containers_labels_are_told_and_outlive_a_restart_while_docker_hangs(store: AwayStore) -> None:
    labels = {"flannelpy.consul.service": "shop:80", "tier": "front"}
    engine = Engine(replace(container("e1"), labels=labels))
    host = Host(store, engine)
    host.journal.put_network(network())
    host.journal.put_endpoint(endpoint())
    with running(host):
        until(lambda: host.told() == {KEY: replace(SHOP, labels=tuple(sorted(labels.items())))})
    engine.hanging["c1"] = threading.Event()
    again = Host(store, engine, host.local)
    with running(again):
        until(lambda: bool(again.endpoints.attachments()))
        assert [one.labels for one in again.endpoints.attachments() or ()] == [labels]


def test_only_what_differs_is_written() -> None:
    stands = {KEY: Entry(encode(SHOP), 7), "endpoints/10.240.0.0-18/h1/gone": Entry(b"{}", 8)}
    other = replace(SHOP, name="other")
    assert list(difference({KEY: SHOP, "new": other}, stands)) == [
        Put("new", encode(other), ABSENT),
        Delete("endpoints/10.240.0.0-18/h1/gone", 8),
    ]
    assert next(difference({KEY: other}, stands)) == Put(KEY, encode(other), 7)


def test_a_container_that_hangs_keeps_no_other_from_being_told(store: AwayStore) -> None:
    engine = Engine(container("e1"), container("e2", name="db", container_id="c2"))
    engine.hanging["c2"] = threading.Event()
    host = Host(store, engine)
    host.journal.put_network(network())
    host.journal.put_endpoint(endpoint())
    host.journal.put_endpoint(endpoint("e2", address="10.240.0.6"))
    with running(host):
        until(lambda: host.told() == {KEY: SHOP}, 0.25)
        time.sleep(0.5)  # there was no answer
        assert host.told() == {KEY: SHOP}
        engine.hanging["c2"].set()
        until(lambda: len(host.told()) == 2)
        assert engine.asked.count("c1") == 1


def test_many_that_hang_keep_others_waiting_for_one_answer_and_no_more(store: AwayStore) -> None:
    others = [container(name=f"hangs{number}", container_id=f"h{number}") for number in range(2 * AT_ONCE)]
    engine = Engine(*others)
    engine.hanging = {one.id: threading.Event() for one in others}
    host = Host(store, engine)
    host.journal.put_network(network())
    with running(host):
        until(lambda: all(engine.asked.count(one.id) > 1 for one in others))
        host.journal.put_endpoint(endpoint())
        engine.containers["c1"] = container("e1")
        host.happened("start")
        until(lambda: host.told() == {KEY: SHOP}, 0.25)
        for event in engine.hanging.values():
            event.set()


def test_what_was_told_before_a_restart_stays_until_docker_has_spoken(store: AwayStore) -> None:
    engine = Engine(container("e1"), container("e2", name="db", container_id="c2"))
    host = Host(store, engine)
    host.journal.put_network(network())
    host.journal.put_endpoint(endpoint())
    host.journal.put_endpoint(endpoint("e2", address="10.240.0.6"))
    with running(host):
        until(lambda: len(host.told()) == 2)
    engine.hanging["c2"] = threading.Event()
    again = Host(store, engine, host.local)
    with running(again):
        until(lambda: len(again.endpoints.own() or ()) == 2)
        time.sleep(0.5)
        assert len(again.told()) == 2
        engine.containers["c2"] = container(container_id="c2")
        engine.hanging["c2"].set()
        until(lambda: set(again.told()) == {KEY})


def test_docker_is_not_asked_about_an_end_that_the_driver_knows(store: AwayStore) -> None:
    host = Host(store, Engine(container("e1")))
    host.journal.put_network(network())
    host.journal.put_endpoint(endpoint())
    with running(host):
        until(lambda: host.told() == {KEY: SHOP})
        host.journal.remove_endpoint("e1")
        host.happened("die")
        until(lambda: not host.told())
        assert host.engine.asked == ["c1"]


@pytest.mark.parametrize(
    "now",
    [container("e1", name="till"), container("e2"), container("e1", "e2"), container()],
    ids=["renamed", "started again", "connected", "disconnected"],
)
def test_what_an_event_that_docker_dropped_told_is_found_by_looking(
    store: AwayStore, monkeypatch: pytest.MonkeyPatch, now: EngineContainer
) -> None:
    monkeypatch.setattr("cluster.endpoints.SWEEP", 0.2)
    host = Host(store, Engine(container("e1")))
    host.journal.put_network(network())
    host.journal.put_endpoint(endpoint())
    host.journal.put_endpoint(endpoint("e2", address="10.240.0.6"))
    with running(host):
        until(lambda: host.told() == {KEY: SHOP})
        time.sleep(0.5)
        assert host.engine.asked == ["c1"]  # it was seen again and again, as it was
        host.engine.containers["c1"] = now
        until(
            lambda: {(r.name, key[-2:]) for key, r in host.told().items()} == {(now.name, e.id) for e in now.endpoints}
        )
        assert host.engine.asked == ["c1", "c1"]


def test_a_container_that_is_started_again_while_a_list_without_it_is_on_its_way_stays_told(store: AwayStore) -> None:
    host = Host(store, Engine(container("e1")))
    host.journal.put_network(network())
    host.journal.put_endpoint(endpoint())
    with running(host):
        until(lambda: host.told() == {KEY: SHOP})

        def start() -> None:
            host.engine.meanwhile, asked = lambda: None, len(host.engine.asked)
            host.engine.containers["c1"] = container("e1")
            host.happened("start")
            until(lambda: len(host.engine.asked) > asked and not host.endpoints._in_question)

        del host.engine.containers["c1"]
        host.engine.meanwhile = start
        host.endpoints.resync()
        until(lambda: "c1" in host.engine.containers)
        time.sleep(0.2)  # to write what is known then
        assert host.told() == {KEY: SHOP}


def test_a_container_that_came_while_nobody_heard_is_asked_about_and_one_without_a_network_is_not(
    store: AwayStore,
) -> None:
    host = Host(store, Engine(container("e1")))
    host.journal.put_network(network())
    host.journal.put_endpoint(endpoint())
    with running(host):
        until(lambda: host.told() == {KEY: SHOP})
        host.journal.put_endpoint(endpoint("e2", address="10.240.0.6"))
        host.engine.containers |= {
            "c2": container("e2", name="db", container_id="c2"),
            "c3": container(name="alone", container_id="c3"),
        }
        host.endpoints.resync()
        until(lambda: len(host.told()) == 2)
        assert host.engine.asked == ["c1", "c2"]


# the directory


def test_names_outlive_a_restart_while_the_store_is_away(store: AwayStore) -> None:
    theirs = records.endpoint_key(WEB, THERE, "e9")
    store.commit(Put(theirs, encode(SHOP), ABSENT))
    host = Host(store, Engine())
    with running(host):
        until(lambda: bool(host.directory.endpoints()))
        host.directory.save()
    again = Host(AwayStore(), Engine(), host.local)
    assert dict(again.directory.endpoints()) == {theirs: SHOP}
    assert again.directory.entries_of(HERE) is None  # and nothing is written on such a ground


def test_what_is_kept_goes_with_the_last_endpoint(store: AwayStore) -> None:
    theirs = records.endpoint_key(WEB, THERE, "e9")
    store.commit(Put(theirs, encode(SHOP), ABSENT))
    host = Host(store, Engine())
    with running(host):
        until(lambda: bool(host.directory.endpoints()))
        host.directory.save()
        entry = store.get(theirs)
        assert entry is not None
        store.commit(Delete(theirs, entry.version))
        until(lambda: not host.directory.endpoints())
        host.directory.save()
    assert not Host(AwayStore(), Engine(), host.local).directory.endpoints()


def test_the_names_of_a_large_cluster_outlive_a_restart(store: AwayStore) -> None:
    """All together they are more than one commit may hold."""
    many = {records.endpoint_key(WEB, THERE, f"e{number}"): replace(SHOP, name=f"c{number}") for number in range(2000)}
    for key, record in many.items():
        store.commit(Put(key, encode(record), ABSENT))
    host = Host(store, Engine())
    with running(host):
        until(lambda: len(host.directory.endpoints()) == len(many))
        host.directory.save()
    assert dict(Host(AwayStore(), Engine(), host.local).directory.endpoints()) == many


def test_a_store_that_hides_everything_removes_no_name(store: AwayStore) -> None:
    theirs = records.endpoint_key(WEB, THERE, "e9")
    store.commit(Put(theirs, encode(SHOP), ABSENT))
    host = Host(store, Engine())
    with running(host):
        until(lambda: bool(host.directory.endpoints()))
        hidden = [(key, entry.version) for key, entry in store.read("").entries.items()]
        store.commit(*(Delete(key, version) for key, version in hidden))
        time.sleep(0.3)
        assert set(host.directory.endpoints()) == {theirs}


def test_a_store_that_has_forgotten_takes_no_name_before_the_hosts_have_told_it_again(store: AwayStore) -> None:
    theirs, gone = records.endpoint_key(WEB, THERE, "e8"), records.endpoint_key(WEB, THERE, "e9")
    store.commit(Put(theirs, encode(SHOP), ABSENT), Put(gone, encode(SHOP), ABSENT))
    host, other = Host(store, Engine()), Announcing(store, THERE)
    with running(host):
        until(lambda: set(host.directory.endpoints()) == {theirs, gone})
        host.may_hide = True
        standing = {**store.read(records.ENDPOINTS).entries, **store.read("feed/").entries}
        store.commit(*(Delete(key, entry.version) for key, entry in standing.items()))
        until(lambda: host.directory.entries_of(THERE) == {})
        assert set(host.directory.endpoints()) == {theirs, gone}
        other.commit(Put(theirs, encode(SHOP), ABSENT))
        until(lambda: set(host.directory.entries_of(THERE) or ()) == {theirs})
        entry = store.get(theirs)
        assert entry is not None
        other.commit(Delete(theirs, entry.version))  # its container ends
        until(lambda: set(host.directory.endpoints()) == {gone})
        host.may_hide = False
        until(lambda: not host.directory.endpoints())


def test_a_host_that_is_given_up_leaves_no_endpoint(store: AwayStore) -> None:
    theirs = records.endpoint_key(WEB, THERE, "e9")
    store.commit(
        Put(theirs, encode(SHOP), ABSENT),
        Put(KEY, encode(SHOP), ABSENT),
        Put(records.host_key(THERE), encode(records.Host("two")), ABSENT),
    )
    entry = store.get(records.host_key(THERE))
    assert entry is not None
    assert give_up(store, THERE, entry.version)
    assert set(store.read(records.ENDPOINTS).entries) == {KEY}


@pytest.mark.parametrize("odd", ["endpoints/x", "endpoints/x/h2/e1", "endpoints/10.240.0.0-18/e1"])
def test_a_key_that_makes_no_sense_is_left_out_and_told_of_once(
    store: AwayStore, odd: str, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = records.endpoint_key(WEB, THERE, "e9")
    store.commit(Put(odd, encode(SHOP), ABSENT), Put(theirs, encode(SHOP), ABSENT))
    host = Host(store, Engine())
    with running(host):
        until(lambda: set(host.directory.endpoints()) == {theirs})
        entry = store.get(odd)
        assert entry is not None
        Announcing(store, THERE).commit(Put(odd, b"\xff", entry.version), Put(theirs + "0", encode(SHOP), ABSENT))
        until(lambda: len(host.directory.endpoints()) == 2)
        host.directory.save()
    assert len(Host(AwayStore(), Engine(), host.local).directory.endpoints()) == 2
    assert len([record for record in caplog.records if "key left out" in record.message]) == 1
    assert not [record for record in caplog.records if "failed" in record.message]


def test_keys_that_name_no_pool_are_nobodys() -> None:
    odd = ["pools/x/peers/h1", "pools/x/holders/h1", "pools/x/wanted/10.0.0.1", "pools/x@/holders/h1"]
    assert View(dict.fromkeys(odd, b"{}")).peers() == {}
    assert not records.pools_with_peer(odd, HERE)
    assert not records.pools_with_holder(odd, HERE)
    assert not records.pools_of(odd)


@pytest.mark.parametrize("odd", ["pools/x/pool", "endpoints/x", records.pool_key(DB), records.network_key(DB)])
def test_an_odd_key_or_a_damaged_record_keeps_no_host_from_being_given_up(store: AwayStore, odd: str) -> None:
    store.commit(
        Put(odd, b"{", ABSENT),
        Put(records.host_key(THERE), encode(records.Host("two")), ABSENT),
    )
    entry = store.get(records.host_key(THERE))
    assert entry is not None
    assert give_up(store, THERE, entry.version)


# what the resolver is told


@dataclass
class Seen:
    """What this host knows of all."""

    journal: Journal = field(default_factory=lambda: Journal(MemoryStore()))
    everybody: dict[str, records.Endpoint] = field(default_factory=dict)
    own: dict[str, records.Endpoint] | None = None  # until Docker was asked
    silent: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.names = Names(
            self.journal, HERE, lambda: MappingProxyType(self.everybody), lambda: self.own, lambda: self.silent
        )

    def says(self, key: str, record: records.Endpoint | None) -> None:
        """The store, of an endpoint."""
        others = {other: it for other, it in self.everybody.items() if other != key}
        self.everybody = others | ({key: record} if record else {})
        self.names.heard_of({key})

    def news(self, *, afresh: bool = False) -> dict[str, Member | None]:
        return self.names.untold(afresh).members


THEIRS, ELSEWHERE = records.endpoint_key(WEB, THERE, "e9"), records.endpoint_key(DB, THERE, "e9")


def test_only_networks_of_this_host_are_named_and_its_own_as_it_knows_them() -> None:
    seen = Seen(everybody={THEIRS: SHOP, ELSEWHERE: SHOP, KEY: SHOP})
    assert seen.news(afresh=True) == {}
    seen.journal.put_network(network())
    assert set(seen.news()) == {THEIRS}
    seen.journal.put_endpoint(endpoint())
    assert set(seen.news()) == {KEY}  # Docker not asked yet
    seen.own = {KEY: replace(SHOP, name="store")}
    assert [member.name for member in seen.news().values() if member] == ["store"]
    seen.own = {}
    assert seen.news() == {KEY: None}
    seen.journal.put_network(network(DB, "n2"))
    assert set(seen.news()) == {ELSEWHERE}
    seen.journal.remove_network("n1")
    assert seen.news() == {THEIRS: None}


def test_a_member_says_whether_its_host_is_silent_and_is_told_of_anew_when_that_changes() -> None:
    seen = Seen(everybody={THEIRS: SHOP, records.endpoint_key(WEB, "h3", "e9"): SHOP})
    seen.journal.put_network(network())
    before = seen.news(afresh=True)
    seen.silent = frozenset({THERE})
    told = seen.news()
    assert [(key, member.silent) for key, member in told.items() if member] == [(THEIRS, True)]
    seen.silent = frozenset()
    assert seen.news() == {THEIRS: before[THEIRS]}


def test_a_change_among_many_endpoints_costs_no_look_at_the_others() -> None:
    class Unlooked(dict[str, records.Endpoint]):
        def __iter__(self) -> Iterator[str]:
            raise AssertionError("all were looked at")

    many = {records.endpoint_key(WEB, f"h{number}", "e9"): SHOP for number in range(2, 50)}
    seen = Seen(everybody=many)
    seen.journal.put_network(network())
    assert seen.news(afresh=True).keys() == many.keys()
    seen.everybody = Unlooked(many | {THEIRS: replace(SHOP, name="store")})
    seen.names.heard_of({THEIRS, "endpoints/x"})
    assert [member.name for member in seen.news().values() if member] == ["store"]
    assert seen.news() == {}


keys = st.sampled_from([THEIRS, ELSEWHERE, KEY, records.endpoint_key(WEB, "h3", "e1")])
shops = st.sampled_from([SHOP, replace(SHOP, name="store"), None])
steps = (
    st.tuples(st.just("says"), keys, shops)
    | st.tuples(st.just("own"), st.none() | st.dictionaries(st.just(KEY), shops.filter(bool), max_size=1))
    | st.tuples(st.just("silent"), st.frozensets(st.sampled_from([THERE, "h3"])))
    | st.tuples(st.just("networks"), st.sets(st.sampled_from([WEB, DB])))
    | st.tuples(st.just("news"))
)


@settings(deadline=None)
@given(st.lists(steps, max_size=12))
def test_told_change_by_change_it_is_as_if_told_at_once(happens: list[tuple[Any, ...]]) -> None:
    seen, told, ids = Seen(), dict[str, Member](), {WEB: "n1", DB: "n2"}
    seen.journal.put_endpoint(endpoint())

    def tell() -> None:
        for key, member in seen.news().items():
            told.pop(key, None)
            if member is not None:
                told[key] = member

    for what, *of in happens:
        match what:
            case "says":
                seen.says(*of)
            case "own":
                seen.own = of[0]
            case "silent":
                seen.silent = of[0]
            case "networks":
                for pool, network_id in ids.items():
                    seen.journal.remove_network(network_id)
                    if pool in of[0]:
                        seen.journal.put_network(network(pool, network_id))
            case "news":
                tell()
    tell()
    assert told == seen.news(afresh=True)


def test_a_container_asks_for_all_its_networks_from_each_of_its_addresses() -> None:
    networks = [network(WEB, "n1"), network(DB, "n2")]
    one = endpoint("e1", "n1", "10.240.0.5", "sandbox1")
    two = endpoint("e2", "n2", "10.241.0.5", "sandbox1")
    alone = endpoint("e3", "n1", "10.240.0.6", "sandbox2")
    lost = endpoint("e4", "gone", "10.242.0.6", "sandbox2")
    both = (str(WEB), str(DB))
    assert askers(networks, [one, two, alone, lost]) == {
        "10.240.0.5": both,
        "10.241.0.5": both,
        "10.240.0.6": (str(WEB),),
    }


def test_each_network_of_a_container_has_another_route_to_the_resolver() -> None:
    """The kernel refuses a second route to the same prefix."""
    made: list[Endpoint] = [endpoint("x", sandbox="another")]
    for number in range(10):
        fresh = endpoint(f"e{number}", sandbox="sandbox1")
        made.append(replace(fresh, resolver=resolver_route([RESOLVER], fresh, made)))
    routes = [one.resolver for one in made[1:]]
    assert routes[0] == ip_network("169.254.53.53/32")
    assert routes[-1] is None  # no more prefixes
    assert len(set(routes)) == len(routes)
    assert all(RESOLVER in route for route in routes if route)
    made.remove(made[1])
    assert resolver_route([RESOLVER], endpoint("new", sandbox="sandbox1"), made) == ip_network("169.254.53.53/32")


def test_the_resolver_is_behind_the_gateway_of_the_containers_own_subnet() -> None:
    """In a network of several, the first one's gateway is not on the container's link."""
    wide = replace(network(WEB, "n1"), pools=(DB, WEB), gateways=(DB[1], WEB[1]))
    here = replace(endpoint(address=str(WEB[5])), resolver=ip_network("169.254.53.53/32"))
    assert join_answer(wide, here).static_routes[-1] == StaticRoute(ip_network("169.254.53.53/32"), WEB[1])


def test_docker_tells_the_names() -> None:
    shape = {
        "Id": "0123456789abcdef",
        "Name": "/shop",
        "Config": {"Image": "nginx", "Labels": {"a": "b"}},
        "NetworkSettings": {
            "Networks": {
                "web": {"EndpointID": "e1", "Aliases": ["store", "0123456789ab"], "DNSNames": None},
                "db": {"EndpointID": "", "Aliases": None},
            }
        },
    }
    attached = EngineEndpoint("e1", "web", ("shop", "0123456789ab", "store"))
    assert read_container(shape) == EngineContainer("0123456789abcdef", "shop", "nginx", {"a": "b"}, (attached,))
