"""The promise of the address manager, as a machine: whatever hosts, crashes, outages and clocks do, in any order,

* no two owners that are alive and unfenced ever have the same address, nor does a host forget one silently,
* what a container has is given to no other by its own host, even if the host was told that it lost it, and
* no address is lost for good: when everybody is back and has let go, the pool is empty and all of it can be given.

A crash happens between any two writes, on disk or in the store. A write whose answer was lost may be done at once,
never, or much later. Clocks run up to 5 % fast or slow, and wall clocks jump. The store is emptied, or restored from a
backup, at any time; what docs/failures.md names as not covered does not happen: see `store_is_emptied`,
`restore_the_backup` and `who_missed_an_epoch_is_noted`."""

from collections.abc import Callable, Collection
from contextlib import suppress
from ipaddress import ip_address, ip_network
from itertools import combinations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.engine import Attached, EngineNetwork
from cluster.garbage import Garbage, LeakedAddress, LeakedPool, Ours, find
from cluster.reclaim import close_empty, give_up
from ipam.book import REST
from ipam.epoch import WATCHED, read_epoch
from ipam.errors import IpamError
from ipam.ipam import Ipam
from ipam.model import PoolId
from ipam.tenancy import LONGEST_PERIOD, LastBeat
from store import records
from store.codec import decode
from store.interface import ABSENT, Contended, Store, StoreUnavailable
from store.ip import IPAddress
from store.memory import MemoryStore
from tests.unit.ipam_faults import FATES, LIVE, ON_DISK, Dead, Fragile
from tests.unit.ipam_hosts import TTL, Cluster, Host, backup, restore

POOL = ip_network("10.9.0.0/28")
POOL_ID = PoolId(POOL)
GATEWAY = ip_address("10.9.0.1")
ROOM = 13  # addresses for containers
HOSTS = ("a", "b", "c", "d", "e")
ADDRESSES = [str(address) for address in POOL.hosts() if address != GATEWAY]
SOME_HOSTS = [set[str]()] * 10 + [set(some) for number in (1, 2) for some in combinations(HOSTS, number)]
SLOW, RIGHT, FAST = 0.95, 1.0, 1.05  # clocks, as far apart as docs/adr/0009 permits
FENCE = TTL * 0.9  # seconds of silence by a host's own clock, after which it gives nothing out
STILL_GIVES = 0.999 * FENCE / SLOW  # seconds of silence after which a host with a slow clock still gives,
TOO_LATE = 1.001 * TTL / FAST  # after which one with a fast clock may have given it up,
GIVEN_UP = 1.15 * TTL  # and after which every host has
LOOKS = 7  # in such a time: by no clock is it longer between two than cluster.reclaim.GAP
PERIOD = 1.33 * LONGEST_PERIOD  # seconds between two beats, for few of them: by no clock longer than LONGEST_GAP
EXPECTED = (IpamError, StoreUnavailable, Contended)


class Addresses(RuleBasedStateMachine):
    def new_store(self) -> Store:
        return MemoryStore()

    def new_disk(self) -> Store:
        return MemoryStore()

    def put_away(self, store: Store) -> None:
        """One of these, of which nobody will speak again."""
        store.close()

    @initialize(count=st.integers(2, len(HOSTS)), rates=st.tuples(*[st.sampled_from([SLOW, RIGHT, FAST])] * len(HOSTS)))
    def begin(self, count: int, rates: tuple[float, ...]) -> None:
        self.cluster = Cluster(self.new_store())
        self.disks: list[Store] = []
        self.writes_left: dict[str, int] = {}
        self.fates: dict[str, str] = {}
        self.late: list[Callable[[], object]] = []
        self.owners: dict[str, set[IPAddress]] = {name: set() for name in HOSTS[:count]}  # what containers have
        self.lost: dict[str, set[IPAddress]] = {name: set() for name in self.owners}  # likewise, but it was lost
        self.own: dict[str, IPAddress | None] = dict.fromkeys(self.owners)  # what the host itself has
        self.rates = dict(zip(self.owners, rates, strict=False))
        self.time = 0.0  # seconds by a clock that is right
        self.heard: dict[str, tuple[LastBeat, float]] = {}  # the last beat that reached the store, and when, by that
        self.behind = dict.fromkeys(self.owners, 0.0)  # seconds that the wall clock was set back
        self.reserved: set[IPAddress] = set()  # as of which the cluster was told, and has not forgotten since
        self.backup: dict[str, bytes] | None = None
        self.missed: set[str] = set()  # hosts that were cut off through a whole epoch
        self.hosts = {name: self.host(name) for name in self.owners}
        for name in sorted(self.owners)[:2]:
            self.create(name)
            self.give(name, None)

    def host(self, name: str) -> Host:
        self.disks.append(self.new_disk())
        host = self.cluster.host(name, disk=Fragile(self.disks[-1], lambda: self.fate(name, disk=True)))
        host.line.fate, host.line.late = lambda: self.fate(name), self.late
        host.verify = lambda ipam: self.verify(name, ipam)
        return host

    def fate(self, name: str, *, disk: bool = False) -> str:
        """What happens at this write of the host: nothing, unless something was planned."""
        left = self.writes_left.get(name)
        if left is None:
            return LIVE
        if left > 0:
            self.writes_left[name] = left - 1
            return LIVE
        fate = self.fates[name]
        if disk and fate not in ON_DISK:
            return LIVE  # comes true at the next write that goes over the line
        del self.writes_left[name]
        return fate

    def do(self, name: str, act: Callable[[Host], object]) -> object:
        """One call on a host; if the process dies in it, a new one starts on the same disk."""
        host = self.hosts[name]
        try:
            return act(host)
        except EXPECTED:
            return None
        except Dead:
            host.restart()
            return None
        finally:
            self.listen(name)

    def listen(self, name: str) -> None:
        last, known = self.hosts[name].tenancy._last.records.get(""), self.heard.get(name)
        if last is not None and not last.lost and (known is None or known[0] != last):
            self.heard[name] = last, self.time

    def verify(self, name: str, ipam: Ipam) -> None:
        """What a host says loudly that it lost is no broken promise; what it forgets elsewhere is, and so is what it
        loses only because the store forgot. Containers that have it go on."""
        tells_again = self.hosts[name].tenancy._tells_again
        try:
            ipam.verify()
        finally:
            leases = self.hosts[name].journal.pool(POOL).leases
            lost = {address for address in self.owned(name) if not has(leases, address)}
            assert self.missed or not tells_again or not lost
            self.lost[name] |= self.owners[name] & lost
            self.owners[name] -= lost
            self.own[name] = None if self.own[name] in lost else self.own[name]

    def worn(self, name: str) -> set[IPAddress]:
        """What the host's containers have, rightly or not."""
        return self.owners[name] | self.lost[name]

    def owned(self, name: str) -> set[IPAddress]:
        """What the host and its containers rightly have."""
        own = self.own[name]
        return self.owners[name] | {own} if own else self.owners[name]

    # what Docker asks

    @precondition(lambda self: len(self.users()) < len(self.hosts))
    @rule(pick=st.integers(0, 99), gateway=st.sampled_from([None, None, "10.9.0.7", "10.9.0.14"]))
    def create_somewhere(self, pick: int, gateway: str | None) -> None:
        """With a gateway refused, unless the pool has that one, or nobody has the pool any more."""
        self.create(self.one_of(self.hosts.keys() - self.users(), pick), gateway)

    def create(self, name: str, gateway: str | None = None) -> None:
        """What is left there of an earlier network goes first, and where no other host has one, so does the pool."""
        if POOL in self.hosts[name].routed:
            return
        alone = not self.cluster.store.read(records.holders_prefix(POOL)).entries.keys() - {
            records.holder_key(POOL, name)
        }
        self.do(name, lambda host: host.create(POOL, gateway=gateway))
        entry = self.cluster.store.get(records.pool_key(POOL))
        if alone and entry is not None:
            self.reserved &= {*decode(records.Pool, entry.value).reserved}

    def users(self) -> list[str]:
        """The hosts where Docker has the network."""
        return [name for name, host in self.hosts.items() if POOL in host.routed]

    def wearers(self) -> list[str]:
        """The hosts whose containers have addresses."""
        return [name for name in self.owners if self.worn(name)]

    def name(self, pick: int) -> str:
        return self.one_of(self.hosts, pick)

    def one_of(self, names: Collection[str], pick: int) -> str:
        return sorted(names)[pick % len(names)]

    @precondition(lambda self: bool(self.users()))
    @rule(pick=st.integers(0, 99), count=st.integers(1, 6))
    def give_some(self, pick: int, count: int) -> None:
        name = self.one_of(self.users(), pick)
        while count and self.give(name, None):
            count -= 1

    @precondition(lambda self: bool(self.users()))
    @rule(pick=st.integers(0, 99), wanted=st.sampled_from(ADDRESSES))
    def give_wanted(self, pick: int, wanted: str) -> None:
        self.give(self.one_of(self.users(), pick), wanted)

    @precondition(lambda self: bool(self.wearers()))
    @rule(pick=st.integers(0, 99), other=st.integers(0, 99), which=st.integers(0, 99))
    def move(self, pick: int, other: int, which: int) -> None:
        """A container is created again on another host, with the same --ip."""
        here = self.one_of(self.wearers(), pick)
        there = self.one_of(self.hosts.keys() - {here}, other)
        worn = sorted(self.worn(here))
        address = worn[which % len(worn)]
        self.release(here, address)
        self.create(there)
        self.give(there, str(address))

    def give(self, name: str, wanted: str | None) -> bool:
        if POOL not in self.hosts[name].routed:
            return False  # its removal died half-way, but Docker has it no more, and asks for nothing
        got = self.do(name, lambda host: host.give(POOL_ID, wanted))
        if got is not None:
            address: IPAddress = got.ip  # type: ignore[attr-defined]
            self.may_be_given(name, address)
            self.owners[name].add(address)
        return got is not None

    def may_be_given(self, name: str, address: IPAddress) -> None:
        silent = self.time - self.heard[name][1]
        assert silent < TTL / FAST, f"{name} gives {address} after {silent} s, when others may have reclaimed it"
        assert address not in self.worn(name), f"{address} is on {name} twice"
        assert address not in self.reserved, f"{address} is reserved, and given to {name}"

    @precondition(lambda self: bool(self.wearers()))
    @rule(pick=st.integers(0, 99), which=st.integers(1, 2**ROOM - 1))
    def release_some(self, pick: int, which: int) -> None:
        """Those whose bit is set in `which`, or all."""
        name = self.one_of(self.wearers(), pick)
        worn = sorted(self.worn(name))
        for address in [address for bit, address in enumerate(worn) if which >> bit & 1] or worn:
            self.release(name, address)

    @rule(pick=st.integers(0, 99), which=st.integers(1, 2**ROOM - 1))
    def release_again(self, pick: int, which: int) -> None:
        """What no container has, as a dockerd does that died in the middle of it: it may be anybody's by now."""
        name = self.name(pick)
        for bit, address in enumerate(map(ip_address, ADDRESSES)):
            if which >> bit & 1 and address not in self.worn(name):
                self.release(name, address)

    def release(self, name: str, address: IPAddress) -> None:
        self.is_gone(name, address)  # before Docker tells
        self.do(name, lambda host: host.release(POOL_ID, str(address)))

    def is_gone(self, name: str, *addresses: IPAddress) -> None:
        """The containers that had these."""
        self.owners[name].difference_update(addresses)
        self.lost[name].difference_update(addresses)

    @rule(pick=st.integers(0, 99), leaves=st.booleans())
    def remove(self, pick: int, leaves: bool) -> None:
        self.remove_from(self.name(pick))
        if leaves:
            self.leave(self.name(pick))

    def remove_from(self, name: str) -> None:
        self.own[name] = None
        for address in self.worn(name):
            self.release(name, address)
        self.do(name, lambda host: host.remove(POOL_ID))
        self.reserved_addresses_go_with_the_pool()  # which may be made anew within the same step

    def leave(self, name: str) -> None:
        """`flannelpy leave`, which is refused while Docker has a network here: the host remembers nothing."""
        if not self.hosts[name].journal.uses(POOL_ID):
            self.do(name, leave)

    @precondition(lambda self: bool(self.users()))
    @rule(pick=st.integers(0, 99), address=st.sampled_from(ADDRESSES))
    def reserve(self, pick: int, address: str) -> None:
        """A network of another driver is made, with an --aux-address: from now on nobody may be given it."""
        name, aux = self.one_of(self.users(), pick), ip_address(address)
        if self.hosts[name].journal.uses(POOL_ID) and self.do(name, lambda host: host.give(POOL_ID, address)):
            if self.do(name, lambda host: host.reserve(POOL, address)):
                self.reserved.add(aux)
            else:
                self.release(name, aux)

    # what happens by itself

    @rule(
        pick=st.integers(0, 99),
        writes=st.integers(0, 6),
        fate=st.sampled_from(FATES),
        act=st.sampled_from(["create", "give", "release", "leave", "keep house", "give up"]),
        wanted=st.sampled_from([*[None] * len(ADDRESSES), *ADDRESSES]),
    )
    def a_fault_in(self, pick: int, writes: int, fate: str, act: str, wanted: str | None) -> None:
        """After so many writes; an act of fewer leaves it to what the host does next."""
        name = self.name(pick)
        if act != "create":
            self.create(name)
        worn = sorted(self.worn(name))
        self.writes_left[name], self.fates[name] = writes, fate
        match act:
            case "create":
                self.create(name)
            case "give":
                self.give(name, wanted)
            case "release" if worn:
                self.release(name, worn[0])
            case "leave":
                self.remove_from(name)
                self.leave(name)
            case "give up":
                self.give_up(name, self.name(pick + 1))
            case _:
                self.keep_house_on(name)

    def give_up(self, name: str, dead: str) -> None:
        """By a person on this host; what that leaves undone is done when the lease has ended."""
        self.do(name, lambda host: give_up(host.line, dead, self.beat_of(dead) or ABSENT))
        self.reserved_addresses_go_with_the_pool()
        self.a_lease_time_passes({dead}, GIVEN_UP)

    @precondition(lambda self: bool(self.late))
    @rule()
    def what_was_late_arrives(self) -> None:
        while self.late:
            self.late.pop(0)()

    @rule(pick=st.integers(0, 99), machine=st.booleans())
    def restart(self, pick: int, machine: bool) -> None:
        """The process alone, or the whole machine."""
        name = self.name(pick)
        if machine:
            self.reboot(name)
        self.hosts[name].restart()

    def reboot(self, name: str) -> None:
        """With a clock that is right again: after a reboot it is all that a host can go by."""
        clock = self.hosts[name].clock
        clock.booted, clock.off, clock.now = clock.booted + "+", clock.off + clock.now, 0.0
        clock.off += self.behind[name]
        self.behind[name] = 0.0
        self.is_gone(name, *self.worn(name))

    @rule(pick=st.integers(0, 99))
    def cut_or_mend(self, pick: int) -> None:
        line = self.hosts[self.name(pick)].line
        line.cut = not line.cut

    @rule(pick=st.integers(0, 99), ahead=st.booleans())
    def the_wall_clock_jumps(self, pick: int, ahead: bool) -> None:
        """Not back between a reboot and the next beat: until then it is all that a host can go by."""
        name = self.name(pick)
        last, clock = self.hosts[name].tenancy._last.records.get(""), self.hosts[name].clock
        if last is not None and last.boot_id != clock.booted and not ahead:
            return
        clock.off += TTL / 3 if ahead else -TTL / 3
        self.behind[name] += 0.0 if ahead else TTL / 3

    @rule(pick=st.integers(0, 99), wanted=st.sampled_from(ADDRESSES))
    def store_is_emptied(self, pick: int, wanted: str) -> None:
        """One that remembers what was there is there before one that does not, and takes what it can."""
        restore(self.cluster.store, {})
        self.reserved.clear()
        if remembering := [name for name in self.hosts if remembers(self.hosts[name])]:
            self.come_first(self.one_of(remembering, pick), wanted)

    def come_first(self, name: str, wanted: str) -> None:
        self.reach(name)
        self.do(name, lambda host: host.settle())
        self.give(name, wanted)
        self.do(name, lambda host: host.ipam.keep_in_hand())

    @rule()
    def make_a_backup(self) -> None:
        self.backup = backup(self.cluster.store)

    @precondition(lambda self: self.backup is not None)
    @rule(pick=st.integers(0, 99), wanted=st.sampled_from(ADDRESSES))
    def restore_the_backup(self, pick: int, wanted: str) -> None:
        """At least one host has been there since it was made, and is the first to be there again."""
        if self.backup is not None and self.reach(self.name(pick)):
            restore(self.cluster.store, self.backup)
            self.reserved.clear()
            self.come_first(self.name(pick), wanted)

    @rule(
        pick=st.integers(0, 99),
        other=st.integers(0, 98),
        ran=st.booleans(),
        passed_on=st.booleans(),
        here=st.booleans(),
    )
    def a_host_that_a_person_gave_up_comes_back(
        self, pick: int, other: int, ran: bool, passed_on: bool, here: bool
    ) -> None:
        """Long before its lease would have ended, and after another has taken what it had. It was off, or its
        containers `ran` on: what they have is lost, or free and theirs again."""
        name, heir = self.two(pick, other)
        for each in (name, heir):
            self.create(each)
        self.give(name, None)
        dead = self.hosts[name]
        held = list(dead.journal.pool(POOL).blocks)
        dead.line.cut = dead.asleep = True
        entry = self.cluster.store.get(records.host_key(name))
        if entry is not None and self.reach(heir):
            give_up(self.cluster.store, name, entry.version)
            self.reserved_addresses_go_with_the_pool()
            for block in held:
                self.give(heir, str(block[1]))
            if passed_on:
                self.pass_on(heir, self.worn(name), besides=name)
        dead.asleep = False
        dead.restart()
        is_back = self.reach(name)
        if not (ran and is_back):
            self.is_gone(name, *self.worn(name))
        if is_back:
            self.give(name, None)
            for block in held:
                self.give(name, str(block[2]))
            self.want_what_is_lost(name, ended=[each for each in self.hosts if (each == name) == here])

    def want_what_is_lost(self, name: str, ended: list[str]) -> None:
        """For another container of the host, when one of those that have it has ended, here or on another host."""
        for address in list(self.lost[name]):
            for each in ended:
                if address in self.worn(each):
                    self.release(each, address)
            self.give(name, str(address))

    def pass_on(self, heir: str, addresses: set[IPAddress], besides: str) -> None:
        """They are borrowed by a third host, and their block is free again."""
        third = next((name for name in self.hosts if name not in (heir, besides)), None)
        if third is not None and self.reach(third):
            self.create(third)
            for address in addresses:
                self.give(third, str(address))
            self.remove_from(heir)

    @rule(pick=st.integers(0, 99), other=st.integers(0, 98))
    def restore_a_backup_with_a_loan_that_came_back(self, pick: int, other: int) -> None:
        name, borrower = self.two(pick, other)
        if not (self.reach(name) and self.reach(borrower)):
            return
        borrowed = self.borrow(borrower, name)
        saved = backup(self.cluster.store)
        for address in borrowed:
            self.release(borrower, address)
            self.give(name, str(address))
        if self.reach(name):
            restore(self.cluster.store, saved)
            self.reserved.clear()
            self.come_first(name, str(ADDRESSES[0]))

    @rule(pick=st.integers(0, 99), other=st.integers(0, 98), cut=st.booleans())
    def the_borrower_gets_the_block(self, pick: int, other: int, cut: bool) -> None:
        """When the lender has left; and the container starts once more, perhaps while the store is away."""
        name, borrower = self.two(pick, other)
        if not (self.reach(name) and self.reach(borrower)):
            return
        self.create(name)
        self.create(borrower)
        held = list(self.hosts[name].journal.pool(POOL).blocks)
        borrowed = self.borrow(borrower, name)
        self.remove_from(name)
        for block in held:
            self.give(borrower, str(block[1]))
        self.hosts[borrower].line.cut = cut
        for address in borrowed:
            self.release(borrower, address)
            self.give(borrower, str(address))

    def borrow(self, borrower: str, lender: str) -> list[IPAddress]:
        """One address of each of the lender's blocks, as far as they are free."""
        before = set(self.owners[borrower])
        for block in list(self.hosts[lender].journal.pool(POOL).blocks):
            self.give(borrower, str(block[2]))
        return sorted(self.owners[borrower] - before)

    def two(self, pick: int, other: int) -> tuple[str, str]:
        """Two hosts."""
        return self.name(pick), self.name(pick + 1 + other % (len(self.hosts) - 1))

    def reach(self, name: str) -> bool:
        """Whether the host's beat reaches the store, by a whole line and without a crash."""
        host = self.hosts[name]
        self.writes_left.pop(name, None)
        host.line.cut = False
        try:
            host.tenancy.beat()
        except EXPECTED:
            return False
        finally:
            self.listen(name)
        return True

    @rule(pick=st.integers(0, 99), collects=st.booleans())
    def keep_house(self, pick: int, collects: bool) -> None:
        self.keep_house_on(self.name(pick))
        if collects:
            self.collect(self.name(pick))

    def keep_house_on(self, name: str) -> None:
        """The duties, as plugin/keeping.py has them run."""
        for act in (
            lambda host: host.tenancy.beat(),
            lambda host: host.settle(),
            lambda host: host.ipam.keep_in_hand(),
            lambda host: host.ipam.answer_wishes(POOL),
            lambda host: host.tell(POOL),
        ):
            self.do(name, act)
        self.renew_own_address(name)

    def renew_own_address(self, name: str) -> None:
        """As the network driver does; what it got last is what the kernel has."""
        if POOL in self.hosts[name].routed:
            known = dict(self.hosts[name].journal.pool(POOL).leases)
            self.do(name, lambda host: self.own.update({name: host.ipam.host_address(POOL)}))
            own = self.own[name]
            if own is not None and not has(known, own):
                self.may_be_given(name, own)

    def collect(self, name: str) -> None:
        """The garbage: the Engine has what containers have; no call is under way, nor was one of late."""
        host, containers = self.hosts[name], {str(a): Attached("c", (a,)) for a in self.worn(name)}
        engine = [EngineNetwork("n", "web", (POOL_ID,), containers, frozenset())] if POOL in host.routed else []
        leases = {("", pool): leases for pool, leases in host.ipam.leases().items()}
        for item in list(find(Ours([], [], host.ipam.held(), leases, {}), engine, now=float("inf"))):
            self.do(name, lambda host, item=item: free(host, item))  # type: ignore[misc]

    @rule(pick=st.integers(0, 99), cloned=st.booleans())
    def a_twin_appears(self, pick: int, cloned: bool) -> None:
        """Another machine under the name of a host that is alive, perhaps a clone from before its last beat: it changes
        nothing, and gives nothing."""
        name = self.name(pick)
        copy = backup(self.hosts[name].disk) if cloned and remembers(self.hosts[name]) else {}
        if not self.reach(name):
            return
        before = self.cluster.held_keys()
        twin = Host(name, self.cluster)
        restore(twin.disk, copy)
        twin.restart()
        for act in (
            lambda: twin.tenancy.beat(),
            lambda: twin.settle(),
            lambda: twin.create(POOL),
            lambda: twin.ipam.keep_in_hand(),
            lambda: twin.ipam.answer_wishes(POOL),
            lambda: twin.tenancy.end(),
        ):
            with suppress(*EXPECTED):
                act()
        with suppress(*EXPECTED):
            assert not twin.give(POOL_ID), f"a twin of {name} gives an address"
        assert self.cluster.held_keys() == before

    @rule(seconds=st.sampled_from([1.0, 61.0, TTL / 20]))
    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)

    def pass_time(self, seconds: float) -> None:
        self.time += seconds
        for name, host in self.hosts.items():
            host.clock.now += seconds * self.rates[name]

    @rule(silent=st.sampled_from(SOME_HOSTS), seconds=st.sampled_from([STILL_GIVES, TOO_LATE, GIVEN_UP]))
    def a_lease_time_passes(self, silent: set[str], seconds: float) -> None:
        """All but the silent ones beat and look. Nobody is given up who would still give an address, and in the end,
        whatever the clocks, everybody who was silent, with all that he held: he may be gone for good."""
        beats = {name: self.beat_of(name) for name in self.hosts if name in silent}
        watched = self.is_watched_by(self.hosts.keys() - silent)
        self.beat_and_look(silent)
        for _ in range(LOOKS):
            self.pass_time(seconds / LOOKS)
            self.beat_and_look(silent)
        for name, beat in beats.items():
            gives = self.hosts[name].tenancy.silence() <= FENCE
            assert not gives or self.beat_of(name) == beat, f"{name} still gives, and is given up"
            assert not (watched and seconds == GIVEN_UP and (held := self.held_by(name))), f"{name} still holds {held}"
            self.ask_while_cut_off(name)

    def beat_and_look(self, silent: set[str]) -> None:
        for name in self.hosts:
            if name not in silent:
                self.do(name, lambda host: host.tenancy.beat())
                self.do(name, lambda host: host.reclaimer.look())

    def beat_of(self, name: str) -> int | None:
        """The version of the host's record."""
        entry = self.cluster.store.get(records.host_key(name))
        return entry.version if entry else None

    def is_watched_by(self, names: Collection[str]) -> bool:
        """Whether one of them sees the store all the time; who dies in the middle leaves the rest to the next time."""
        sees = any(self.beat_of(name) is not None and not self.hosts[name].line.cut for name in names)
        return sees and self.writes_left.keys().isdisjoint(names)

    def held_by(self, name: str) -> list[str]:
        """Whatever says so in the store."""
        entries, says = self.cluster.store.read("").entries, f'"host":"{name}"'.encode()
        return [key for key, entry in entries.items() if key.endswith(f"/{name}") or says in entry.value]

    def ask_while_cut_off(self, name: str) -> None:
        line = self.hosts[name].line
        before, line.cut = line.cut, True
        self.give(name, None)
        self.renew_own_address(name)
        line.cut = before

    @rule(silent=st.sampled_from(SOME_HOSTS))
    def some_periods_pass(self, silent: set[str]) -> None:
        """All but the silent ones beat in each."""
        for _ in range(WATCHED + 1):
            self.pass_time(PERIOD)
            for name in self.hosts:
                if name not in silent:
                    self.do(name, lambda host: host.tenancy.beat())

    # the promise

    @invariant()
    def who_missed_an_epoch_is_noted(self) -> None:
        """Cut off from a store that had forgotten, until all others had told it again what they hold: until it is back,
        what it gives out may be somebody else's."""
        epoch, _ = read_epoch(self.cluster.store)
        if epoch is not None and epoch.settled:
            self.missed = {
                name
                for name, host in self.hosts.items()
                if host.tenancy._memory is not None and host.tenancy._memory.epoch != epoch.id
            }

    @invariant()
    def reserved_addresses_go_with_the_pool(self) -> None:
        if self.cluster.store.get(records.pool_key(POOL)) is None:
            self.reserved.clear()

    @invariant()
    def what_was_lost_is_kept_from_others_here(self) -> None:
        """For as long as its container runs, or until it is the host's once more."""
        for name, lost in self.lost.items():
            if not lost:
                continue
            leases = self.hosts[name].journal.pool(POOL).leases
            for address in list(lost):
                lease = leases.get(address)
                assert lease is not None, f"{name} has forgotten that a container has {address}"
                assert lease.released is None, f"{name} takes {address} for free, and a container has it"
            again = {address for address in lost if has(leases, address)}
            self.owners[name] |= again
            lost -= again

    @invariant()
    def no_address_has_two_owners(self) -> None:
        seen: dict[IPAddress, str] = {}
        for name in self.owners:
            host, owned = self.hosts[name], self.owned(name)
            if not owned or host.tenancy.silence() > FENCE or name in self.missed:
                continue  # behind its fence: its containers' addresses may be others' by now
            leases = host.journal.pool(POOL).leases
            for address in owned:
                assert address != host.journal.pool(POOL).gateway
                assert address not in seen, f"{address} is on {seen[address]} and on {name}"
                assert has(leases, address), f"{name} has forgotten that it gave out {address}"
                seen[address] = name

    def teardown(self) -> None:
        """Everybody comes back, lets go of everything and leaves, the last one after it has used the whole pool."""
        if hasattr(self, "hosts"):
            self.writes_left.clear()
            self.what_was_late_arrives()
            self.let_everything_go()
            self.nobody_has_anything()
            self.everybody_leaves()
            for store in (self.cluster.store, *self.disks):
                self.put_away(store)

    def let_everything_go(self) -> None:
        for name, host in self.hosts.items():
            host.line.cut = False
            for address in self.worn(name):
                host.release(POOL_ID, str(address))
            self.is_gone(name, *self.worn(name))
            self.do(name, lambda host: host.tenancy.beat())
            for _ in range(1 + host.journal.uses(POOL_ID)):  # one leaked hold at a time
                self.collect(name)
        epoch, _ = read_epoch(self.cluster.store)
        if epoch is not None and not epoch.settled:
            self.some_periods_pass(set())
        self.everybody_settles()
        if any(host.journal.pool(POOL).lent for host in self.hosts.values()):
            self.everybody_settles()  # what others gave back meanwhile

    def nobody_has_anything(self) -> None:
        """All of it can be given, but what the cluster keeps back; idle loans to whoever wants them. A host that has
        the network keeps an address for itself."""
        wanted, loans = records.wanted_prefix(POOL), records.borrowed_prefix(POOL)
        assert not self.cluster.store.read(wanted).entries
        epoch, _ = read_epoch(self.cluster.store)
        for key, entry in self.cluster.store.read(loans).entries.items():
            loan = decode(records.Borrowed, entry.value)
            can_be_had = loan.idle and epoch is not None and loan.epoch == epoch.id
            assert can_be_had, f"{key} stays lent"
        for name, host in self.hosts.items():
            leases = host.journal.pool(POOL).leases.items()
            given = [(address, lease.kind) for address, lease in leases if lease.released is None]
            own = [address for address, kind in given if kind == "host"]
            stays = [address for address, kind in given if kind != "lent" or not self.is_lent(address)]
            assert len(own) <= 1, f"{name} has {own} for itself"
            assert stays == own, f"{name} keeps {stays}"
            assert host.journal.uses(POOL_ID) == (POOL in host.routed), f"{name} holds the pool for no network"

    def is_lent(self, address: IPAddress) -> bool:
        return self.cluster.store.get(records.borrowed_key(POOL, address)) is not None

    def everybody_settles(self) -> None:
        for host in self.hosts.values():
            host.tenancy.beat()
            host.settle()
            host.ipam.answer_wishes(POOL)

    def everybody_leaves(self) -> None:
        last, *others = self.hosts.values()
        for host in others:
            leave_pool(host)
        if last.journal.uses(POOL_ID):
            use_it_all(last)
        leave_pool(last)
        close_empty(self.cluster.store)
        assert self.cluster.held_keys() == []


def leave_pool(host: Host) -> None:
    while host.journal.uses(POOL_ID):
        host.remove(POOL_ID)
    host.settle()


def use_it_all(host: Host) -> None:
    """The last host there can give all but what the cluster keeps back, unless the pool is another one by now."""
    entry = host.cluster.store.get(records.pool_key(POOL))
    pool = decode(records.Pool, entry.value) if entry else records.Pool(0)
    if pool.gateway is not None and pool.gateway == host.journal.pool(POOL).gateway:
        host.clock.now += REST + 1
        own = {host.ipam.host_address(POOL)}
        free = {*POOL.hosts()} - {pool.gateway, *pool.reserved} - own
        given = {host.give(POOL_ID).ip for _ in free}
        assert given == free
        for address in given:
            host.release(POOL_ID, str(address))


def leave(host: Host) -> None:
    """As plugin/admin.py has it."""
    host.tenancy.beat()
    host.settle()
    host.tenancy.end()


def free(host: Host, item: Garbage) -> None:
    """As cluster/garbage.py has it."""
    if isinstance(item, LeakedAddress):
        host.ipam.release_address(item.pool_id, item.address, item.since)
    else:
        assert isinstance(item, LeakedPool)
        host.ipam.release_pool(item.pool_id)


def remembers(host: Host) -> bool:
    return host.tenancy._memory is not None


def has(leases: object, address: IPAddress) -> bool:
    lease = leases.get(address)  # type: ignore[attr-defined]
    return lease is not None and lease.released is None and lease.kind in ("endpoint", "borrowed", "host")
