"""What stands in the cluster before a host's own store moves there."""

import pytest

from plugin.migrate import Collision, migrate
from store import records
from store.codec import encode
from store.interface import ABSENT, Put
from store.memory import MemoryStore

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
