"""What every store asks of its keys and commits, so that what works on one host also works in a cluster.

The bounds are Consul's: a key is part of a URL, and a commit is one request of at most `txn_max_req_len` bytes. What
never goes to a cluster may be larger."""

from collections.abc import Sequence

from store.interface import ABSENT, MOST_OPERATIONS, Change, Check, Delete, Entry, Put

MAX_BYTES = 512 * 1024
FRAME = 256  # bytes one change costs beside its key and value: verb, version, cluster name, quotes
NO_PARTS = frozenset(("", ".", ".."))
WANTED = 'expected printable parts joined by "/", none of them empty, "." or ".."'


def check_key(key: str) -> None:
    """ValueError unless `key` is printable text of parts joined by "/", none of them empty, "." or "..".

    URLs do not keep such parts, and Consul accepts unprintable keys in transactions but not in URLs."""
    if not key.isprintable() or not NO_PARTS.isdisjoint(key.split("/")):
        raise ValueError(f"key {key!r}: {WANTED}")


def check_prefix(prefix: str) -> None:
    """Like `check_key`, but the last part may be empty: "networks/" and "" are prefixes too."""
    *parts, last = prefix.split("/")
    if not prefix.isprintable() or not NO_PARTS.isdisjoint(parts) or (last and last in NO_PARTS):
        raise ValueError(f"prefix {prefix!r}: {WANTED}")


def check_changes(changes: Sequence[Change], most_bytes: float = MAX_BYTES) -> None:
    """ValueError when the changes do not fit into one commit, or speak of one key twice."""
    if len(changes) > MOST_OPERATIONS:
        raise ValueError(f"{len(changes)} changes in one commit: at most {MOST_OPERATIONS} are possible")
    for change in changes:
        check_key(change.key)
    if len({change.key for change in changes}) < len(changes):
        raise ValueError("one key named twice in one commit: the stores do not agree on what that means")
    size = sum(map(_size, changes))
    if size > most_bytes:
        raise ValueError(f"a commit of {size} bytes: at most {most_bytes} are possible, with values in base64")


def holds(change: Change, standing: Entry | None) -> bool:
    """Whether the key is where `change` expects it; `standing` is what the store holds."""
    if standing is None:
        return change.expect == ABSENT or isinstance(change, Delete)
    return change.expect == standing.version


def differs(change: Change, standing: Entry | None) -> bool:
    """Whether `change` changes anything. As in Consul, writing what is there already does not: its version stays."""
    match change:
        case Put(value=value):
            return standing is None or standing.value != value
        case Delete():
            return standing is not None
        case Check():
            return False


def _size(change: Change) -> int:
    value = change.value if isinstance(change, Put) else b""
    return FRAME + len(change.key.encode()) + (len(value) + 2) // 3 * 4
