"""What stands in the cluster before a host's own store moves there."""

import json
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ipam.model import PoolId
from ipam.pools import read_index
from ipam.tenancy import LastBeat, LeaseLapsed, StoreForgot
from plugin import cli
from plugin.migrate import Collision, migrate
from store import records
from store.codec import encode
from store.interface import ABSENT, Contended, Put
from store.ip import IPNetwork
from store.local import LocalRecords
from store.memory import MemoryStore
from store.space import Space
from tests.unit.ipam_hosts import Cluster, Host, backup, restore
from tests.unit.test_ipam_meanwhile import Meanwhile
from tests.unit.test_membership import join

POOL = ip_network("10.9.0.0/24")
KEY = records.host_key("h1")


def store_with(host: records.Host) -> MemoryStore:
    store = MemoryStore()
    assert store.commit(Put(KEY, encode(host), ABSENT))
    return store


def test_a_host_that_was_in_the_cluster_before_has_its_own_record_there_with_another_beat() -> None:
    """And perhaps with another lease time."""
    target = store_with(records.Host("one", beat=7, ttl=60.0))
    assert migrate(store_with(records.Host("one", beat=2, ttl=86400.0)), target) == 1
    entry = target.get(KEY)
    assert entry is not None
    assert entry.value == encode(records.Host("one", beat=7, ttl=60.0))


def test_the_epoch_of_the_hosts_own_store_stays_there() -> None:
    source, target = MemoryStore(), MemoryStore()
    assert source.commit(Put(records.EPOCH, encode(records.Epoch("e", 1, settled=True)), ABSENT))
    migrate(source, target)
    assert target.get(records.EPOCH) is None


def test_another_machine_of_the_name_is_a_collision() -> None:
    with pytest.raises(Collision, match="hosts/h1 stands in the cluster already"):
        migrate(store_with(records.Host("one")), store_with(records.Host("other")))


def host_with_a_store_of_its_own(pool: IPNetwork) -> Host:
    host = Host("own", Cluster())
    host.create(pool)
    return host


def test_a_pool_that_overlaps_one_of_the_clusters_is_a_collision() -> None:
    own, cluster = host_with_a_store_of_its_own(ip_network("10.9.0.0/24")), Cluster()
    cluster.host("a").create(ip_network("10.9.0.0/25"))
    before = backup(cluster.store)
    with pytest.raises(Collision, match=r"pool 10\.9\.0\.0/24 overlaps 10\.9\.0\.0/25, which the cluster already uses"):
        migrate(own.cluster.store, cluster.store)
    assert backup(cluster.store) == before


def test_a_block_that_another_host_holds_is_a_collision() -> None:
    own, cluster = host_with_a_store_of_its_own(POOL), Cluster()
    other = cluster.host("a")
    taken = other.create(POOL)
    for block in own.journal.pool(POOL).blocks:
        other.give(taken, str(block[5]))
    before = backup(cluster.store)
    with pytest.raises(Collision, match=r"pools/10\.9\.0\.0-24/blocks/.* stands in the cluster already"):
        migrate(own.cluster.store, cluster.store)
    assert backup(cluster.store) == before


def test_the_networks_of_two_hosts_that_took_the_same_pool_do_not_become_one() -> None:
    hosts = [Host(name, Cluster(), alone=True) for name in ("first", "second")]
    cluster = MemoryStore()
    for host in hosts:
        join(host.cluster.store, host.name, host.create(None).pool)
    first, second = (host.cluster.store for host in hosts)
    migrate(first, cluster)
    before = backup(cluster)
    with pytest.raises(Collision, match=r"network 10\.224\.0\.0/18 is in the cluster already, on first, "):
        migrate(second, cluster)
    assert backup(cluster) == before
    join(cluster, "second", "10.224.0.0/18")  # made anew there
    assert migrate(first, cluster)


def test_lists_of_pools_of_every_name_space_become_one() -> None:
    """Where the cluster knew one network more of a `--ipam-opt network=`, nothing could be moved there."""
    own, cluster, lan, dmz = MemoryStore(), MemoryStore(), ip_network("10.9.0.0/24"), ip_network("10.9.1.0/24")
    Cluster(Space(own, "site")).host("own").create(lan)
    known = Cluster(Space(cluster, "site")).host("a")
    known.create(dmz)
    migrate(own, cluster)
    assert read_index(Space(cluster, "site"))[0].pools == (lan, dmz)
    before = backup(cluster)
    wider = MemoryStore()
    Cluster(Space(wider, "site")).host("wider").create(ip_network("10.9.0.0/16"))
    with pytest.raises(Collision, match=r"pool 10\.9\.0\.0/16 overlaps 10\.9\.0\.0/24, which the cluster already uses"):
        migrate(wider, cluster)
    assert backup(cluster) == before


def test_nothing_moves_into_a_store_that_is_told_again() -> None:
    own, cluster = host_with_a_store_of_its_own(POOL), Cluster()
    a = cluster.host("a")
    a.create(POOL)
    restore(cluster.store, {})
    a.tenancy.beat()
    before = backup(cluster.store)
    with pytest.raises(Collision, match="the hosts are telling it again; run the command again in some minutes"):
        migrate(own.cluster.store, cluster.store)
    assert backup(cluster.store) == before


@pytest.mark.parametrize("commit", range(3))
def test_nothing_moves_into_a_store_that_is_emptied_meanwhile(commit: int) -> None:
    own, cluster = host_with_a_store_of_its_own(POOL), Cluster()
    a = cluster.host("a")
    a.create(ip_network("10.8.0.0/24"))

    def forget() -> None:
        restore(cluster.store, {})
        a.tenancy.beat()

    with pytest.raises(Contended):
        migrate(own.cluster.store, Meanwhile(cluster.store, {commit: forget}))
    assert records.host_key("own") not in backup(cluster.store)


@pytest.mark.parametrize("first", ["own", "a"])
def test_a_host_that_moved_to_a_store_whose_loss_nobody_had_noticed_gives_nothing_of_anothers(first: str) -> None:
    """An emptied store looks like a new cluster's until a host of the old one beats."""
    own, cluster = host_with_a_store_of_its_own(POOL), Cluster()
    a = cluster.host("a")
    pool = a.create(POOL)
    (block,) = own.journal.pool(POOL).blocks
    theirs = a.give(pool, str(block[5]))
    restore(cluster.store, {})
    migrate(own.cluster.store, cluster.store)
    forget_the_last_beats_store(own)
    own.cluster = own.line.cluster = cluster
    own.restart()
    cluster.hosts.append(own)
    hosts = sorted(cluster.hosts, key=lambda host: host.name != first)
    for _ in range(5):
        for host in hosts:
            host.clock.now += host.tenancy.period
            with suppress(StoreForgot):
                host.tenancy.beat()
    given = [*(own.give(pool).ip for _ in range(20)), *(a.give(pool).ip for _ in range(20)), theirs.ip]
    assert len(set(given)) == len(given)


def test_a_host_that_moved_gives_nothing_before_it_has_compared_what_it_holds() -> None:
    own = host_with_a_store_of_its_own(POOL)
    forget_the_last_beats_store(own)
    own.restart()
    own.line.cut = True
    with pytest.raises(LeaseLapsed, match="has not reached the store for longer than its lease lasts"):
        own.give(PoolId(POOL))
    own.line.cut = False
    assert own.give(PoolId(POOL))


def forget_the_last_beats_store(host: Host) -> None:
    """A store of the host's own leaves no memory in the record of the last beat."""
    last = LocalRecords(host.disk, "lease", LastBeat, str)
    last.put("", replace(last.records[""], memory=None))


def migrate_command(tmp_path: Path, *arguments: str) -> Result:
    state = ("--state-dir", str(tmp_path))
    return CliRunner().invoke(cli.main, ["migrate", "consul://127.0.0.1:1", *state, *arguments])


def test_a_consul_that_cannot_be_asked_is_told_by_its_exit_code(tmp_path: Path) -> None:
    done = migrate_command(tmp_path)
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.startswith("Error: Consul at consul://127.0.0.1:1 cannot be reached")


def test_what_was_moved_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.stores.open_store", lambda settings: MemoryStore())
    done = migrate_command(tmp_path, "--json")
    assert json.loads(done.stdout) == {"moved": 0, "store": "consul://127.0.0.1:1"}


def test_a_record_that_cannot_be_read_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    assert store.commit(Put(records.INDEX, b"{", ABSENT))
    monkeypatch.setattr("plugin.stores.open_store", lambda settings: store)
    done = migrate_command(tmp_path)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: not a Index: b'{'")
