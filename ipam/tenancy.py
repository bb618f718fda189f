"""This host's lease on all that it holds: beats that keep it, and the fence behind which nothing is given out.

The rule (docs/adr/0009): whoever takes a silent host's blocks away has itself seen the host's record stand still for
the whole lease time, by its own clock. The host counts from before its last beat was sent, and stops giving out
addresses a margin before that time is over. So the fence is up before anybody may reclaim, as long as no two clocks
run apart by more than the margin in one lease time; no clock is ever compared with another."""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from store import records
from store.codec import decode, encode
from store.interface import ABSENT, Check, Contended, Delete, Put, Store, StoreUnavailable
from store.local import LocalRecords
from store.update import ATTEMPTS

log = logging.getLogger(__name__)

MARGIN = 0.1  # of the lease time
BEATS = 12  # in one lease time, at least
LONGEST_PERIOD = 60.0  # seconds between two beats
QUIET_PERIODS = 3  # after so many without a beat, one is tried before an address is given out


class LeaseLapsed(StoreUnavailable):
    """What this host held may be somebody else's by now."""


class NameTaken(LeaseLapsed):
    """Another machine lives under this host's name."""


class Clock(Protocol):
    def boot(self) -> float:
        """Seconds since the machine started, sleep included."""

    def boot_id(self) -> str:
        """Another one after each start of the machine."""

    def wall(self) -> float:
        """Seconds since the epoch, as far as this machine knows."""


class SystemClock:
    def __init__(self) -> None:
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot_id(self) -> str:
        return self._boot_id

    def wall(self) -> float:
        return time.time()


@dataclass(frozen=True, slots=True)
class LastBeat:
    """When the last beat that reached the store was sent, by both clocks."""

    boot_id: str
    boot: float
    wall: float
    ttl: float | None = None  # that the beat told the others, in seconds


@dataclass(frozen=True, slots=True)
class Identity:
    """This installation, so that two machines of one name are told apart."""

    instance: str


def period_of(ttl: float) -> float:
    """Seconds between the beats of a host with that lease time."""
    return min(LONGEST_PERIOD, ttl / BEATS)


class Tenancy:
    def __init__(self, store: Store, local: Store, host: str, ttl: float, clock: Clock | None = None) -> None:
        """`ttl` in seconds: how long a silent host keeps what it holds."""
        clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._verify: Callable[[], None] = lambda: None
        self._ended = False
        self._store, self._host, self._ttl, self._clock = store, host, ttl, clock
        self._last = LocalRecords(local, "lease", LastBeat, str)
        self._identity = LocalRecords(local, "identity", Identity, str)
        if "" not in self._identity.records:
            self._identity.put("", Identity(uuid.uuid4().hex))
        self.period = period_of(ttl)

    def on_loss(self, verify: Callable[[], None]) -> None:
        """`verify` compares what this host believes to hold with the store; it may raise StoreUnavailable."""
        self._verify = verify

    @property
    def instance(self) -> str:
        return self._identity.records[""].instance

    # the fence

    def silence(self) -> float:
        """Seconds since the last beat, by whichever clock says longer; endless if there was none."""
        last = self._last.records.get("")
        if last is None:
            return float("inf")
        wall = self._clock.wall() - last.wall
        if self._clock.boot_id() != last.boot_id:
            return wall if wall >= 0 else float("inf")  # a clock that went back tells nothing
        return max(wall, self._clock.boot() - last.boot)

    def insist(self) -> None:
        """Before an address is given out, and with no lock held. After a silence, a beat is tried first."""
        if self.silence() <= QUIET_PERIODS * self.period:
            return
        try:
            self.beat()
        except NameTaken:
            raise
        except StoreUnavailable as error:
            self.refuse_if_fenced(error)

    def refuse_if_fenced(self, why: object = "no beat since") -> None:
        """LeaseLapsed if the time is over after which somebody may reclaim what this host holds."""
        silence = self.silence()
        if silence > self._believed() * (1 - MARGIN):
            raise LeaseLapsed(
                f"this host has not reached the store for {_duration(silence)}, so its addresses may belong to others "
                f"by now ({why}); it gives out none until the store is back"
            )

    def _believed(self) -> float:
        """The lease time that others may go by: a restart with a longer one has told nobody yet."""
        last = self._last.records.get("")
        return self._ttl if last is None or last.ttl is None else min(self._ttl, last.ttl)

    # beats

    def keep(self) -> None:
        """`beat`, unless this host has given everything back and taken nothing since."""
        if not self._ended:
            self.beat()

    def beat(self) -> None:
        """Renew the lease. Where it was lost, a new one begins, and `verify` looks again at all that this host held
        before anything is given out. NameTaken if another machine has the name."""
        with self._lock:
            self._ended = False
            before = self._renew()
            if "" not in self._last.records:
                self._verify()
            self._last.put("", before)

    def _renew(self) -> LastBeat:
        key = records.host_key(self._host)
        for _ in range(ATTEMPTS):
            entry = self._store.get(key)
            before = LastBeat(self._clock.boot_id(), self._clock.boot(), self._clock.wall(), self._ttl)
            known = decode(records.Host, entry.value) if entry else None
            if known is None or known.reclaimed or known.instance != self.instance:
                self._lose(known)
            renewed = encode(records.Host(self.instance, known.beat + 1 if known else 0, ttl=self._ttl))
            if self._store.commit(Put(key, renewed, entry.version if entry else ABSENT)):
                return before
        raise Contended(f"host {self._host}: somebody else kept writing its record; try again")

    def _lose(self, known: records.Host | None) -> None:
        """The fence goes up first and stays up over a crash: without a last beat, nothing is given out unverified."""
        if "" in self._last.records:
            log.error(
                "the lease of this host was lost", extra={"host": self._host, "silent": _duration(self.silence())}
            )
        self._last.remove("")
        if known is not None and known.instance != self.instance:
            raise NameTaken(
                f"another machine, or an earlier installation, is host {self._host} in this cluster; set "
                f"FLANNELPY_HOST to another name, or run `flannelpy leave --host {self._host}` if that one is gone "
                "for good"
            )

    def check(self) -> Check:
        """Goes into every transaction in which this host takes something: a host that was reclaimed takes nothing."""
        entry = self._store.get(records.host_key(self._host))
        known = decode(records.Host, entry.value) if entry else None
        if entry is None or known is None or known.reclaimed or known.instance != self.instance:
            raise LeaseLapsed(f"host {self._host} has lost its lease; it takes a new one, try again")
        return Check(records.host_key(self._host), entry.version)

    def end(self) -> None:
        """After this host has given everything back: its name is free. LeaseLapsed if the name is not ours."""
        with self._lock:
            self._ended = True
            self._last.remove("")
            for _ in range(ATTEMPTS):
                if self._store.commit(Delete(records.host_key(self._host), self.check().expect)):
                    return
        raise Contended(f"host {self._host}: somebody else kept writing its record; try again")


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.0f} h" if seconds >= 7200 else f"{seconds:.0f} s"
