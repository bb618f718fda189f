"""What stands in the cluster before a host's own store moves there."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from plugin import cli
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
