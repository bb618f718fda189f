"""This host's lease on all that it holds: beats that keep it, and the fence behind which nothing is given out.

The rule (docs/adr/0009): whoever takes a silent host's blocks away has itself seen the host's record stand still for
the whole lease time, by its own clock. The host counts from before its last beat was sent, and stops giving out
addresses a margin before that time is over. So the fence is up before anybody may reclaim, as long as no two clocks
run apart by more than the margin in one lease time; no clock is ever compared with another.

A store that has forgotten what it was told (ipam.epoch) is told again by every host that is not behind its fence:
what such a host's journal says is its own, whatever stands in the store."""

import logging
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from ipam.clock import Clock, SystemClock
from ipam.copies import STILL, Copies
from ipam.epoch import WATCHED, Epochs, Memory, Place, has_forgotten, has_missed, is_another, read_epoch
from store import records
from store.codec import decode, encode
from store.interface import ABSENT, Check, Contended, Delete, Entry, Put, Store, StoreUnavailable
from store.local import LocalRecords
from store.update import ATTEMPTS

log = logging.getLogger(__name__)

MARGIN = 0.1  # of the lease time
BEATS = 12  # in one lease time, at least
LONGEST_PERIOD = 60.0  # seconds between two beats
QUIET_PERIODS = 3  # after so many without a beat, one is tried before an address is given out


class LeaseLapsed(StoreUnavailable):
    """What this host held may be somebody else's by now."""


class StoreForgot(StoreUnavailable):
    """What the store shows as free may be somebody's."""


class NameTaken(LeaseLapsed):
    """Another machine lives under this host's name, or this is another cluster."""


@dataclass(frozen=True, slots=True)
class LastBeat:
    """When the last beat that reached the store was sent, by both clocks."""

    boot_id: str
    boot: float
    wall: float
    ttl: float | None = None  # that the beat told the others, in seconds
    memory: Memory | None = None  # none of a store that was this host's own
    lost: bool = False  # the lease that it kept is lost, and nothing was compared with the store since


class Claimed(Protocol):
    """A claim to a block or an address, as it stands in the store."""

    @property
    def epoch(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Identity:
    """This installation, so that two machines of one name are told apart."""

    instance: str
    beats: int = 0  # sent, of which some may not have arrived; a backup may have its record from before


def period_of(ttl: float) -> float:
    """Seconds between the beats of a host with that lease time."""
    return min(LONGEST_PERIOD, ttl / BEATS)


class Tenancy:
    def __init__(
        self,
        store: Store,
        local: Store,
        host: str,
        ttl: float,
        clock: Clock | None = None,
        *,
        alone: bool = False,
        away: Callable[[], tuple[float, str] | None] = lambda: None,
        place: Place | None = None,
    ) -> None:
        """`ttl` in seconds: how long a silent host keeps what it holds. `alone` if the store is this host's own:
        what that forgets is nobody else's. `away` tells for how many seconds the store has been away,
        and why; None if it is there, as far as is known. `place` is where the store is, None if that is not known."""
        clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._verify: Callable[[], None] = lambda: None
        self._ended = False
        self._store, self._host, self._ttl, self._clock = store, host, ttl, clock
        self._alone, self._away, self._place = alone, away, place
        self._last = LocalRecords(local, "lease", LastBeat, str)
        self._identity = LocalRecords(local, "identity", Identity, str)
        if "" not in self._identity.records:
            self._identity.put("", Identity(uuid.uuid4().hex))
        self.period = period_of(ttl)
        self._epochs = Epochs(store, self.period)
        self._copies = Copies(self._beats() if self._memory else None)
        self._name_taken = ""  # why the last beat was refused
        self._tells_again = False
        self.epoch = self._last_epoch()  # of what this host claims now
        self.retelling = False  # the store had forgotten, and the hosts tell it again, as of the last beat
        if not alone and self._memory is None:
            self._fence()  # what was this host's in a store of its own is compared with the cluster's first

    def on_loss(self, verify: Callable[[], None]) -> None:
        """`verify` compares what this host believes to hold with the store, after a lost lease and in a new epoch; it
        may raise StoreUnavailable."""
        self._verify = verify

    @property
    def instance(self) -> str:
        return self._identity.records[""].instance

    # the fence

    @property
    def is_new(self) -> bool:
        """Whether the store has never heard of this host, which then holds nothing that it could lose."""
        return "" not in self._last.records

    def silence(self) -> float:
        """Seconds since the last beat, by whichever clock says longer; endless if there was none."""
        last = self._last.records.get("")
        if last is None or last.lost:
            return float("inf")
        wall = self._clock.wall() - last.wall
        if self._clock.boot_id() != last.boot_id:
            return wall if wall >= 0 else float("inf")  # a clock that went back tells nothing
        return max(wall, self._clock.boot() - last.boot)

    def insist(self) -> None:
        """Before an address is given out, and with no lock held. After a silence, a beat is tried first, but not while
        the store is known to be away: whoever asks would wait for as long as it hangs."""
        if self.silence() <= QUIET_PERIODS * self.period:
            return
        if (away := self._away()) is not None:
            self.refuse_if_fenced(away[1])
            return
        try:
            self.beat()
        except NameTaken:
            raise
        except StoreUnavailable as error:
            self.refuse_if_fenced(error)

    def refuse_if_fenced(self, why: object = "no beat since") -> None:
        """LeaseLapsed if the time is over after which somebody may reclaim what this host holds."""
        self._refuse_if_taken()
        if self.is_new:
            raise LeaseLapsed(f"this host has no lease yet, as it has not reached the store ({why})")
        if self._is_fenced():
            raise LeaseLapsed(
                f"this host has not reached the store for {_duration(self.silence())}, so its addresses may belong to "
                f"others by now ({why}); it gives out none until the store is back"
            )

    def _is_fenced(self) -> bool:
        return self.silence() > self._believed() * (1 - MARGIN)

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
        before anything is given out; likewise where the store has forgotten it. NameTaken if another machine has the
        name; StoreForgot if others must tell the store first what they hold."""
        with self._lock:
            self._ended = False
            renewed = self._renew()
            last = self._last.records.get("")
            try:
                if last is None or self._is_lost() or self._tells_again:
                    self._verify()
            finally:
                self._tells_again = False
            self._last.put("", renewed)

    def _renew(self) -> LastBeat:
        key = records.host_key(self._host)
        for _ in range(ATTEMPTS):
            self._refuse_another_cluster()
            entry, known = self._standing()
            self._refuse_twin(known)
            self._refuse_copy(entry, known)
            self._name_taken = ""
            epoch, forgot = self._epochs.enter(self._memory, known, self._clock.boot())
            self.epoch, self.retelling, self._tells_again = epoch.id, not epoch.settled, False
            if has_missed(self._memory, epoch) if forgot else known is None or known.reclaimed:
                self._lose()
            if not epoch.settled and (forgot or self._is_lost()):
                self._tell_again()
            beat = 1 + max(known.beat if known else 0, self._beats())
            memory = self._remembered(epoch, beat)
            before = LastBeat(self._clock.boot_id(), self._clock.boot(), self._clock.wall(), self._ttl, memory)
            renewed = encode(records.Host(self.instance, beat, ttl=self._ttl))
            self._note_sending(beat)
            if self._store.commit(Put(key, renewed, entry.version if entry else ABSENT)):
                return before
        raise Contended(f"host {self._host}: somebody else kept writing its record; try again")

    def _remembered(self, epoch: records.Epoch, beat: int) -> Memory | None:
        if self._alone:
            return None
        return Memory(epoch.id, epoch.number, beat, epoch.gone, epoch.cluster, self._place)

    def _note_sending(self, beat: int) -> None:
        """Beats go on while the disk is full: without them, what this host holds would become others'."""
        self._copies.sending(beat)
        with suppress(StoreUnavailable):
            self._identity.put("", Identity(self.instance, beat))

    def _standing(self) -> tuple[Entry | None, records.Host | None]:
        """This host's record in the store."""
        entry = self._store.get(records.host_key(self._host))
        return entry, decode(records.Host, entry.value) if entry else None

    def _last_epoch(self) -> str:
        if self._alone:
            epoch, _ = read_epoch(self._store)
            return epoch.id if epoch else ""
        return self._memory.epoch if self._memory else ""

    @property
    def _memory(self) -> Memory | None:
        last = self._last.records.get("")
        return last.memory if last and not self._alone else None

    def _beats(self) -> int:
        """The number of this installation's last beat: they never go back."""
        return max(self._identity.records[""].beats, self._memory.beat if self._memory else 0)

    def _lose(self) -> None:
        silent = self.silence()
        if self._fence():
            log.error("the lease of this host was lost", extra={"host": self._host, "silent": _duration(silent)})

    def _fence(self) -> bool:
        """The fence goes up first and stays up over a crash: nothing is given out unverified. False if it was up."""
        last = self._last.records.get("")
        if last is None or last.lost:
            return False
        self._last.put("", replace(last, lost=True))
        return True

    def _is_lost(self) -> bool:
        last = self._last.records.get("")
        return last is not None and last.lost

    def _refuse_twin(self, known: records.Host | None) -> None:
        if known is not None and known.instance != self.instance:
            self._refuse_name(
                f"another machine, or an earlier installation, is host {self._host} in this cluster; set "
                f"FLANNELPY_HOST to another name, or run `flannelpy leave --host {self._host}` if that one is gone "
                "for good"
            )

    def _refuse_copy(self, entry: Entry | None, known: records.Host | None) -> None:
        """What one held that is no more, this host compares with the store before it gives anything out."""
        if entry is None or known is None or known.reclaimed or self._copies.sent(known.beat):
            return
        self._lose()
        period = max(self.period, period_of(known.ttl))
        if self._copies.may_live(entry.version, self._clock.boot(), period):
            self._refuse_name(
                f"somebody else beats as host {self._host} with this machine's identity, or did a moment ago: a copy "
                "of this machine, or this one before it was set back, or while its disk was full; it gives out no "
                f"address until nobody has for {_duration(STILL * period)}; on a copy, stop flannelpy and remove its "
                "state directory"
            )

    def _refuse_another_cluster(self) -> None:
        """Its store would seem to have forgotten this host, which would take what is others' there."""
        memory, here = self._memory, self._place
        if memory is None or here is None or memory.place == here:
            return
        epoch, _ = read_epoch(self._store)
        if is_another(memory, here, epoch):
            self._refuse_name(
                f"this host belongs to {memory.place}, and {here} is another: set FLANNELPY_STORE and "
                "FLANNELPY_CLUSTER as they were; to move this host, remove its networks and run `flannelpy leave` "
                "before that"
            )

    def _refuse_name(self, why: str) -> None:
        self._lose()
        self._name_taken = why
        self._refuse_if_taken()

    def _refuse_if_taken(self) -> None:
        """By a machine that the last beat met."""
        if self._name_taken:
            raise NameTaken(self._name_taken)

    def _tell_again(self) -> None:
        """Not behind the fence: what was this host's may be another's, which has not told the store yet."""
        if self._is_fenced():
            raise StoreForgot(
                "the store has lost what it knew, and what this host held may be others' by now: they must tell the "
                "store first what they hold"
            )
        log.warning("the store has lost what it knew, and is told again", extra={"host": self._host})
        self._tells_again = True

    # what goes into transactions

    def check(self) -> Check:
        """Goes into every transaction in which this host takes something: a host that was reclaimed takes nothing.

        Such a transaction also fails when a beat comes in between: it is to be tried again."""
        entry, known = self._standing()
        if entry is None or known is None or not self._is_ours(known):
            self._refuse_if_taken()
            raise LeaseLapsed(f"host {self._host} has lost its lease; it takes a new one, try again")
        return Check(records.host_key(self._host), entry.version)

    def _is_ours(self, known: records.Host) -> bool:
        is_old = self._memory is not None and known.beat < self._memory.beat
        is_own = known.instance == self.instance and self._copies.sent(known.beat)
        return is_own and not known.reclaimed and not is_old

    def check_new(self) -> tuple[Check, Check]:
        """Goes into every transaction in which this host takes what it has not held before. StoreForgot while the
        store may show somebody else's as free."""
        epoch, version = read_epoch(self._store)
        if epoch is None or epoch.id != self.epoch or not epoch.settled:
            raise StoreForgot(
                "the store has lost what it knew, and the hosts are telling it again, which takes "
                f"{_duration((WATCHED + 1) * self.period)} at most: until then this host gives addresses of blocks "
                "that it has, and takes no others"
            )
        return self.check(), Check(records.EPOCH, version)

    def trusts_store(self) -> bool:
        """Whether what the store does not show, as read before this call, is not there."""
        try:
            self.check_new()
        except (LeaseLapsed, StoreForgot):
            return False
        return True

    def may_lose(self) -> bool:
        """Whether networks of this host may lose what the store does not show: `trusts_store`, or there are none."""
        return self._ended or self.trusts_store()

    def may_hide(self) -> bool:
        """Whether other hosts may have what the store does not show, as read before this call: it has lost that, and
        they did not have the time to tell it again. This host's own lease has nothing to do with it."""
        _, known = self._standing()
        epoch, _ = read_epoch(self._store)
        if epoch is None or not epoch.settled:
            return True
        memory = self._memory
        return memory is not None and epoch.number <= memory.number and has_forgotten(memory, known, epoch)

    def is_hearsay(self, claim: Claimed | None) -> bool:
        """Whether the store has that, or that there is no claim, from before it forgot. This host's journal knows
        better: what it says is this host's is nobody else's, as long as nobody took anything new."""
        return self._tells_again and (claim is None or claim.epoch != self.epoch)

    def end(self) -> None:
        """After this host has given everything back: its name is free. LeaseLapsed if the name is not ours."""
        with self._lock:
            self._ended = True
            self._identity.put("", Identity(self.instance, self._beats()))
            self._last.remove("")
            for _ in range(ATTEMPTS):
                if self._store.commit(Delete(records.host_key(self._host), self.check().expect)):
                    return
        raise Contended(f"host {self._host}: somebody else kept writing its record; try again")


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "longer than its lease lasts"
    return f"{seconds / 3600:.0f} h" if seconds >= 7200 else f"{seconds:.0f} s"
