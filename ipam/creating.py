"""Whether Docker is making a network of a pool, as far as that can be told without asking Docker: no request may, since
Docker waits for it.

Docker holds a pool before it lists the network, and a container is only ever in one that it lists (docs/adr/0029)."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ipam.journal import Held, Journal
from ipam.model import PoolId
from store.ip import IPAddress

MAKING = 30.0  # seconds after which Docker, asking for a pool, asks for no --aux-address in it any more


@dataclass(slots=True)
class Create:
    """The last `network create` that asked for a pool."""

    since: float  # seconds since the epoch
    is_over: bool = False
    granted: set[IPAddress] = field(default_factory=set)


class Creating:
    """Safe for many threads."""

    def __init__(self, journal: Journal, clock: Callable[[], float]) -> None:
        self._journal, self._clock = journal, clock
        self._last: dict[PoolId, Create] = {}
        self._lock = threading.Lock()

    def listed(self, networks: Mapping[PoolId, int], as_of: float) -> None:
        """In how many networks Docker had each pool, when it was asked at `as_of` (seconds since the epoch)."""
        with self._lock:
            all_held = self._journal.held()
            self._last = {pool_id: create for pool_id, create in self._last.items() if pool_id in all_held}
            for pool_id, held in all_held.items():
                if as_of > held.since and networks.get(pool_id, 0) >= held.uses:
                    self._create(pool_id, held).is_over = True

    def grants(self, pool_id: PoolId, address: IPAddress) -> bool:
        """Whether this may be a create's request for one of its --aux-address. Docker asks for each once."""
        with self._lock:
            create = self._current(pool_id)
            if create is None or address in create.granted:
                return False
            create.granted.add(address)
            return True

    def is_on(self, pool_id: PoolId) -> bool:
        with self._lock:
            return self._current(pool_id) is not None

    def _current(self, pool_id: PoolId) -> Create | None:
        held = self._journal.held().get(pool_id)
        if held is None or not 0 <= self._clock() - held.since <= MAKING:
            return None
        create = self._create(pool_id, held)
        return None if create.is_over else create

    def _create(self, pool_id: PoolId, held: Held) -> Create:
        last = self._last.get(pool_id)
        if last is None or last.since != held.since:
            last = self._last[pool_id] = Create(held.since)
        return last
