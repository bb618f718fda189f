"""Epochs: in each one the store knows, without a gap, what it was told; a new one begins when it has forgotten some.

A store that was emptied, or restored from a backup, shows too much as free. A host finds that out by what it
remembers of its last beat, and declares a new epoch. While that is not settled, the hosts tell the store again what
they hold and nobody takes anything new. Whoever has watched it for as long as every living host needs to do so
settles it. Claims tell the epoch that they were made or told again in (docs/adr/0028)."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from store import records
from store.codec import decode, encode
from store.interface import ABSENT, Change, Check, Contended, Put, Store
from store.update import ATTEMPTS

WATCHED = 3  # periods between two beats, after which every living host has told again what it holds
LONGEST_GAP = 1.5  # periods between two looks: after a longer one, the store may have been away for everybody


@dataclass(frozen=True, slots=True)
class Place:
    """Where the settings say that the cluster is."""

    cluster: str  # FLANNELPY_CLUSTER
    store: str  # FLANNELPY_STORE

    def __str__(self) -> str:
        return f"cluster {self.cluster} at {self.store}"


@dataclass(frozen=True, slots=True)
class Memory:
    """What a host remembers of the store as of its last beat there."""

    epoch: str  # its id
    number: int
    beat: int
    gone: int  # as in records.Epoch
    cluster: str = ""  # likewise
    place: Place | None = None  # None: not known


@dataclass(frozen=True, slots=True)
class Watched:
    """Since when this host has seen an epoch unsettled, in seconds of its own clock."""

    epoch: str
    since: float
    until: float

    @property
    def seconds(self) -> float:
        return self.until - self.since


def has_forgotten(memory: Memory | None, host: records.Host | None, epoch: records.Epoch | None) -> bool:
    """Whether the store shows less than it did at the last beat; `host` is the host's own record, read before `epoch`.

    That record is removed by others only together with a move of `gone`, and its beat never goes back. Pure."""
    if memory is None:
        return False
    if epoch is None or epoch.id != memory.epoch or epoch.gone < memory.gone:
        return True
    return epoch.gone == memory.gone if host is None else host.beat < memory.beat


def has_missed(memory: Memory | None, epoch: records.Epoch) -> bool:
    """In another epoch than the remembered: whether what this host held may be others'. One was settled while it was
    away, so that it was free to be taken; or this host came to an emptied store before all others, took that for a new
    cluster, and what seemed free was theirs. Pure."""
    if memory is None:
        return False
    return epoch.settled or epoch.number > memory.number + 1 or epoch.cluster != memory.cluster


def is_another(memory: Memory, here: Place, epoch: records.Epoch | None) -> bool:
    """Whether the cluster `here` is another than the remembered one. That may have moved to another address, and have
    been emptied, but it keeps its name. Pure."""
    if memory.place is None:
        return False
    return epoch.cluster != memory.cluster if epoch else here.cluster != memory.place.cluster


def watched_on(watched: Watched | None, epoch: records.Epoch, now: float, period: float) -> Watched | None:
    """After one more look at the epoch; None once it is settled. Pure."""
    if epoch.settled:
        return None
    goes_on = watched is not None and watched.epoch == epoch.id and now - watched.until <= LONGEST_GAP * period
    return Watched(epoch.id, watched.since if watched and goes_on else now, now)


class Epochs:
    def __init__(self, store: Store, period: float) -> None:
        """`period` in seconds: between two looks of every host."""
        self._store, self._period = store, period
        self._watched: Watched | None = None

    def enter(self, memory: Memory | None, host: records.Host | None, now: float) -> tuple[records.Epoch, bool]:
        """The epoch from now on, and whether the store has forgotten. To be called at each beat, at `now` seconds of
        this machine's own clock, by one thread at a time."""
        for _ in range(ATTEMPTS):
            standing, version = read_epoch(self._store)
            forgot = has_forgotten(memory, host, standing)
            if memory and forgot and not (standing and standing.number > memory.number):  # nobody has found out yet
                epoch = _next_to(memory)
                self._watched = Watched(epoch.id, now, now)
            else:
                epoch = self._looked_at(standing, now)
            if epoch == standing or self._store.commit(Put(records.EPOCH, encode(epoch), version)):
                return epoch, forgot
        raise Contended(f"{records.EPOCH}: other hosts kept changing it; try again")

    def _looked_at(self, standing: records.Epoch | None, now: float) -> records.Epoch:
        if standing is None:
            return _first()
        self._watched = watched_on(self._watched, standing, now, self._period)
        long_enough = self._watched is not None and self._watched.seconds >= WATCHED * self._period
        return replace(standing, settled=standing.settled or long_enough)


def _first() -> records.Epoch:
    cluster = uuid.uuid4().hex
    return records.Epoch(cluster, 1, settled=True, cluster=cluster)


def _next_to(memory: Memory) -> records.Epoch:
    return records.Epoch(uuid.uuid4().hex, memory.number + 1, settled=False, cluster=memory.cluster)


def read_epoch(store: Store) -> tuple[records.Epoch | None, int]:
    entry = store.get(records.EPOCH)
    return (decode(records.Epoch, entry.value), entry.version) if entry else (None, ABSENT)


def one_more_gone(store: Store) -> Sequence[Change]:
    """Goes into the transaction that removes another host's record: it was not forgotten."""
    epoch, version = read_epoch(store)
    if epoch is None:
        return [Check(records.EPOCH, ABSENT)]
    return [Put(records.EPOCH, encode(replace(epoch, gone=epoch.gone + 1)), version)]
