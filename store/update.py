"""The compare-and-set loop, written once."""

import random
import time
from collections.abc import Callable

from store.interface import ABSENT, Contended, Entry, Put, Store

ATTEMPTS = 20
PAUSE = 0.002  # seconds, doubled with each race lost: writers that start together come apart
LONGEST_PAUSE = 0.1


def update(store: Store, key: str, change: Callable[[bytes | None], bytes]) -> Entry:
    """Read, change, write back; start over when another host wrote in between.

    `change` happens exactly once. Returns what stands there afterwards, which is what it made unless another host
    has written since. StoreUnavailable leaves it unknown whether the change happened."""
    for attempt in range(ATTEMPTS):
        entry = store.get(key)
        value = change(entry.value if entry else None)
        if entry and entry.value == value:
            return entry
        if store.commit(Put(key, value, entry.version if entry else ABSENT)):
            written = store.get(key)
            if written:
                return written
            continue  # removed again: as if it had been so before we came
        time.sleep(pause_after(attempt))
    raise Contended(f"{key}: other hosts kept writing it; try again")


def pause_after(attempt: int) -> float:
    """Seconds to wait when so many races were lost before, and now one more."""
    return random.uniform(0, min(PAUSE * 2**attempt, LONGEST_PAUSE))  # noqa: S311 - keeps no secret
