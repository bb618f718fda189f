"""What the operator's commands do; each works on a flannelpy that runs and on one that does not."""

import time

from cluster.reclaim import give_up
from driver.errors import BadRequest
from ipam.tenancy import period_of
from plugin.install import REMOVE_HERE
from plugin.parts import Parts
from store import records
from store.codec import decode
from store.interface import Entry

BEATS_AWAITED = 1.5  # periods in which a living host beats


def leave(parts: Parts) -> str:
    """Give back all that this host holds; its name. Refused while Docker has networks of ours here."""
    pools = sorted(map(str, parts.ipam.held()))
    if pools:
        raise BadRequest(f"this host still has networks in {', '.join(pools)}: {REMOVE_HERE}, and then leave")
    parts.tenancy.beat()  # what stands under this host's name may be another machine's
    keys = parts.store.read(records.POOLS).entries
    parts.ipam.settle(records.pools_with_holder(keys, parts.host))
    parts.driver.leave_unused(records.pools_with_peer(keys, parts.host))
    parts.tenancy.end()
    return parts.host


def leave_for(parts: Parts, host: str) -> None:
    """Give back what another host holds, which is gone for good: nobody else can know that."""
    key = records.host_key(host)
    entry = parts.store.get(key)
    if entry is None:
        raise BadRequest(f"the cluster knows no host {host}")
    _await_beat(parts, key, entry)
    parts.forget(host)
    if not give_up(parts.store, host, entry.version):
        raise BadRequest(_lives(host))


def _await_beat(parts: Parts, key: str, seen: Entry) -> None:
    """BadRequest if the host beats: what a living host holds is not taken away."""
    period = max(parts.tenancy.period, period_of(decode(records.Host, seen.value).ttl))
    deadline = time.monotonic() + BEATS_AWAITED * period
    version = 0
    while (left := deadline - time.monotonic()) > 0:
        snapshot = parts.store.wait(key, version, left)
        entry, version = snapshot.entries.get(key), snapshot.version
        if entry is None or entry.version != seen.version:
            raise BadRequest(_lives(key.removeprefix(records.HOSTS)))


def _lives(host: str) -> str:
    return f"host {host} has just given a sign of life; stop it first"
