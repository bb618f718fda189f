"""Which keys of the cluster nobody can read: mistyped by hand, or from a version that writes otherwise. All who read
pass over them, so somebody must be told."""

from collections.abc import Iterator, Mapping
from typing import Any

from store import records
from store.codec import BadRecord, decode

_KINDS: dict[str, Any] = {
    "pool": records.Pool,
    "network": records.NetworkSpec,
    "peers": records.Peer,
    "blocks": records.Block,
    "borrowed": records.Borrowed,
    "wanted": records.Wanted,
}


def faulty(entries: Mapping[str, bytes]) -> Iterator[str]:
    """The keys, among those below `pools/` and `leases/`, whose name or record cannot be read."""
    for key, value in entries.items():
        if not records.is_sound(key) or not _is_readable(key, value):
            yield key


def _is_readable(key: str, value: bytes) -> bool:
    kind = records.BlockLeases if key.startswith(records.LEASES) else _KINDS.get(key.split("/")[2])
    try:
        return kind is None or decode(kind, value) is not None
    except BadRecord:
        return False
