"""A process killed at every single write of a call, and each answer of the store lost: by enumeration, not by luck.

Killed at a read, a process leaves what it leaves when killed before its next write, so writes are all there is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

import pytest

from cluster.engine import Attached, EngineNetwork
from cluster.garbage import YOUNG, LeakedAddress, Ours, find
from ipam.errors import IpamError
from ipam.model import PoolId
from store import records
from store.codec import encode
from store.interface import ABSENT, Contended, Put, StoreUnavailable
from store.ip import IPAddress
from store.memory import MemoryStore
from tests.unit.ipam_faults import DIE_AFTER, DIE_BEFORE, LATE, LIVE, NO_ANSWER, ON_DISK, Dead, Fragile
from tests.unit.ipam_hosts import TTL, Cluster, Host

POOL = ip_network("10.9.0.0/28")
POOL_ID = PoolId(POOL)
ROOM = 13
MOST_WRITES = 60


@dataclass
class Scene:
    """Two hosts of one pool. `own` are the addresses that containers have, `victim` is the host things happen to."""

    cluster: Cluster = field(default_factory=Cluster)
    own: dict[IPAddress, str] = field(default_factory=dict)
    writes: int = 0  # of the victim, since it was armed
    fated: int | None = None  # the number of the write at which `fate` comes true
    fate: str = LIVE
    late: list[Callable[[], object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.a, self.b = (self.cluster.host(name) for name in "ab")
        self.a.create(POOL)
        self.b.create(POOL)
        self.a.tell(POOL)
        self.b.tell(POOL)

    def arm(self, victim: Host, fated: int | None, fate: str) -> None:
        self.writes, self.fated, self.fate = 0, fated, fate
        victim.disk = Fragile(victim.disk, lambda: self._at_write(disk=True))
        victim.line.fate, victim.line.late = lambda: self._at_write(disk=False), self.late
        victim.restart()

    def _at_write(self, *, disk: bool) -> str:
        number, self.writes = self.writes, self.writes + 1
        return self.fate if number == self.fated and not (disk and self.fate not in ON_DISK) else LIVE

    def give(self, host: Host, wanted: str | None = None) -> IPAddress:
        address = host.give(POOL_ID, wanted).ip
        assert address not in self.own, f"{address} was given to {host.name}, and is with {self.own[address]}"
        self.own[address] = host.name
        return address

    def give_all_of(self, host: Host, count: int) -> None:
        for _ in range(count):
            self.give(host)

    def release(self, host: Host, address: IPAddress) -> None:
        self.own.pop(address, None)
        host.release(POOL_ID, str(address))

    def insist_on_one_owner_each(self) -> None:
        """Every address that a container has is its host's, and nobody else's."""
        for address in POOL.hosts():
            havers = [host.name for host in (self.a, self.b) if is_containers(host, address)]
            assert len(havers) <= 1, f"{address} is with {havers}"
            if address in self.own:
                assert havers == [self.own[address]], f"{address} of {self.own[address]} is with {havers}"

    def use_the_rest(self) -> None:
        """After the duties have run, whatever no container has can be given."""
        for host in (self.a, self.b) * 2:
            host.tenancy.beat()
            host.settle()
            collect(host, [address for address, name in self.own.items() if name == host.name])
            host.settle()
            host.ipam.answer_wishes(POOL)
            host.tell(POOL)
        self.insist_on_one_owner_each()
        while len(self.own) < ROOM:
            for host in (self.a, self.b):
                if not host.journal.uses(POOL_ID):
                    host.create(POOL)
                host.tell(POOL)
            self.give(self.a if len(self.own) % 2 else self.b)
        self.insist_on_one_owner_each()


def is_containers(host: Host, address: IPAddress) -> bool:
    lease = host.journal.pool(POOL).leases.get(address)
    return lease is not None and lease.released is None and lease.kind in ("endpoint", "borrowed")


def collect(host: Host, containers: list[IPAddress]) -> None:
    engine = EngineNetwork("n", "web", (POOL_ID,), {str(a): Attached("c", (a,)) for a in containers}, frozenset())
    ours = Ours([], [], {}, {("", pool): leases for pool, leases in host.ipam.leases().items()}, {})
    for item in list(find(ours, [engine], host.clock.wall() + YOUNG + 1)):
        assert isinstance(item, LeakedAddress)
        host.ipam.release_address(item.pool_id, item.address)


@dataclass(frozen=True)
class Call:
    name: str
    prepare: Callable[[Scene], None]
    victim: str
    act: Callable[[Scene, Host], object]

    def __str__(self) -> str:
        return self.name


def fill_own_block(scene: Scene) -> None:
    while scene.a.journal.pool(POOL).books() and any(
        book.free_within(None) > 1 for book in scene.a.journal.pool(POOL).books()
    ):
        scene.give(scene.a)


def fill_all_blocks(scene: Scene) -> None:
    scene.give_all_of(scene.a, ROOM - 4)
    for address, name in list(scene.own.items()):
        if name == "b" or ip_address(address) in next(iter(scene.b.journal.pool(POOL).blocks)):
            scene.release(scene.a, address)
    scene.b.tell(POOL)


def free_address_of(host: Host) -> str:
    pool = host.journal.pool(POOL)
    block = next(iter(pool.blocks))
    usable = [a for a in block if a in set(POOL.hosts()) and not pool.is_given(a) and not pool.is_reserved(a)]
    return str(usable[-1])


def borrow(scene: Scene) -> None:
    scene.give(scene.a, free_address_of(scene.b))


def lose_the_lease(scene: Scene) -> None:
    """`a` is silent for so long that `b` takes its blocks, and uses some of them."""
    scene.give(scene.a)
    scene.a.line.cut = True
    for _ in range(8):
        scene.a.clock.now += TTL / 5
        scene.b.clock.now += TTL / 5
        scene.b.tenancy.beat()
        scene.b.reclaimer.look()
    scene.own = {address: name for address, name in scene.own.items() if name == "b"}  # the others are fenced
    scene.give_all_of(scene.b, 6)
    scene.a.line.cut = False


def nothing(scene: Scene) -> None:
    scene.give(scene.a)


CALLS = [
    Call("from a block of its own", nothing, "a", lambda s, h: s.give(h)),
    Call("the first, with a block to be taken", fill_own_block, "a", lambda s, h: s.give(h)),
    Call("a wanted one of its own", nothing, "a", lambda s, h: s.give(h, free_address_of(s.a))),
    Call("a wanted one of the other's, asked for", nothing, "a", lambda s, h: s.give(h, free_address_of(s.b))),
    Call("a wanted one, seen by its holder", nothing, "b", lambda s, _: s.give(s.a, free_address_of(s.b))),
    Call("any, when no block is free", fill_all_blocks, "a", lambda s, h: s.give(h)),
    Call("the return of a loan", borrow, "a", lambda s, h: s.release(h, next(a for a in s.own if s.own[a] == "a"))),
    Call("the return of a loan and a new one", borrow, "a", lambda s, h: again(s, h)),
    Call("after a lost lease", lose_the_lease, "a", lambda s, h: s.give(h)),
    Call("of a pool that was left and joined again", nothing, "a", lambda s, h: leave_and_join(s, h)),
]


def again(scene: Scene, host: Host) -> None:
    address = next(a for a in scene.own if scene.own[a] == host.name)
    scene.release(host, address)
    scene.give(host, str(address))


def leave_and_join(scene: Scene, host: Host) -> None:
    scene.own = {address: name for address, name in scene.own.items() if name != host.name}
    host.remove(POOL_ID)
    scene.give_all_of(scene.b, 4)
    host.create(POOL)
    scene.give(host)


@pytest.mark.parametrize("fate", [DIE_BEFORE, DIE_AFTER, NO_ANSWER, LATE])
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_an_address_is_its_callers_or_free_whatever_write_is_the_last(call: Call, fate: str) -> None:
    for fated in range(MOST_WRITES):
        scene = Scene(Cluster(MemoryStore()))
        call.prepare(scene)
        victim = scene.a if call.victim == "a" else scene.b
        scene.arm(victim, fated, fate)
        try:
            call.act(scene, victim)
        except Dead:
            victim.restart()
        except (IpamError, StoreUnavailable, Contended):
            pass
        if scene.writes <= fated:
            return  # the call is over before this write
        scene.insist_on_one_owner_each()
        retry(scene, victim)
        for arrives in scene.late:
            arrives()
        scene.insist_on_one_owner_each()
        scene.use_the_rest()
    raise AssertionError(f"{call} writes more than {MOST_WRITES} times")


def retry(scene: Scene, victim: Host) -> None:
    """dockerd, or a person, tries again."""
    if victim.journal.uses(POOL_ID) and len(scene.own) < ROOM - 1:
        try:
            scene.give(victim)
        except (IpamError, StoreUnavailable, Contended):
            return


def test_a_mistyped_key_keeps_nobody_from_addresses() -> None:
    cluster = Cluster()
    a, b = cluster.host("a"), cluster.host("b")
    mistyped = {
        "pools/10.9.0.0-28/blocks/ten": records.Block("a"),
        "pools/10.9.0.0-28/borrowed/10.9.0.777": records.Borrowed("b"),
        "pools/10.9.0.0-28/wanted/ten": records.Wanted("b"),
    }
    assert cluster.store.commit(*(Put(key, encode(record), ABSENT) for key, record in mistyped.items()))
    pool = a.create(POOL)
    b.create(POOL)
    first = a.give(pool)
    assert len({first, *(b.give(pool) for _ in range(ROOM - 1))}) == ROOM  # most of them borrowed
    a.release(pool, first)
    assert b.give(pool, str(first.ip)) == first
    for host in (a, b):
        host.settle()
    assert {*mistyped} <= {*cluster.held_keys()}
