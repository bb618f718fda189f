"""Gathers what the operator's commands show: from the store, or the last that was seen of it, from this host's records
and from Docker. Never asked from a request of Docker's."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.conflicts import Conflicts
from cluster.dockerd import SHORT_TIMEOUT, Dockerd, EngineUnavailable
from cluster.engine import EngineNetwork
from cluster.garbage import Collector, Ours
from cluster.reclaim import Reclaimer
from cluster.spread import Outcome, State
from cluster.upkeep import Upkeep
from cluster.watch import Watch
from driver.backends.interface import Underlay
from driver.checksums import Checksums
from driver.listener import Listener
from driver.reconciler import Reconciler
from ipam.pool_journal import BORROWED, ENDPOINT, HOST, LENT, LOST, RETURNING, Lease
from ipam.tenancy import LeaseLapsed, Tenancy
from operations import survey
from operations.model import Address, Container, Host, LeaseState, Network, Picture, Status, StoreState, UnderlayState
from operations.survey import Entries, Here, Where
from operations.version import version
from store import records
from store.codec import BadRecord, decode
from store.connections import Traffic
from store.interface import Snapshot, Store, StoreUnavailable
from store.ip import IPAddress

SHOWN = (records.POOLS, records.HOSTS, records.LEASES, records.NETWORKS)
LONGEST_IDLE = 60.0  # seconds between two passes of a reconciler that is alive
LONGEST_TURN = 300.0  # and between two questions of a watch: the store may keep each open for a minute
AS_IN_CLUSTER = (State.SPREAD, State.KEPT)
USES = {ENDPOINT: "container", HOST: "host", BORROWED: "container", LENT: "lent", RETURNING: "resting", LOST: "lost"}


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the observer looks."""

    host: str
    store_address: str
    ttl: float
    state_dir: Path
    unwritten: Callable[[], str]  # why this host's own records cannot be written, empty if they can
    resolvers: Sequence[IPAddress]  # where containers ask for names, none where they do not
    store: Store
    away: Callable[[], tuple[float, str] | None]  # seconds and reason, None while the store answers
    skew: Callable[[], float | None]  # seconds this clock is ahead of the store's, None: not known
    exchanged: Callable[[], Traffic]  # with the store
    attached: Callable[[], Mapping[str, records.Endpoint]]  # containers of all hosts, as far as their names are told
    ours: Callable[[], Ours]
    watch: Watch
    tenancy: Tenancy
    reclaimer: Reclaimer
    reconciler: Reconciler
    listeners: Sequence[Listener]  # to the kernel
    conflicts: Conflicts
    collector: Collector
    engine: Dockerd
    upkeeps: Collection[Upkeep]
    outcomes: Callable[[], Mapping[str, Outcome]]  # of the cluster's networks on this host
    checksums: Checksums


def lease_state(see: Sources) -> LeaseState:
    silence, fence = see.tenancy.silence(), "" if see.tenancy.is_new else _fence(see.tenancy)
    return LeaseState(see.ttl, None if silence == float("inf") else silence, fence, see.tenancy.retelling)


def _fence(tenancy: Tenancy) -> str:
    try:
        tenancy.refuse_if_fenced()
    except LeaseLapsed as error:
        return str(error)
    return ""


def given_by_host(leases: Snapshot) -> dict[str, list[IPAddress]]:
    """The addresses that each host has given out in networks of our driver, as far as it told."""
    found: dict[str, list[IPAddress]] = {}
    for key, entry in leases.entries.items():
        with suppress(BadRecord):
            told = decode(records.BlockLeases, entry.value)
            if not records.space_of_key(key):
                found.setdefault(told.host, []).extend(told.given)
    return found


class Observer:
    def __init__(self, sources: Sources) -> None:
        self._see = sources
        self._others: list[Callable[[], str]] = []

    def listen(self, fault: Callable[[], str]) -> None:
        """For what itself looks at the observer: its fault, empty if there is none, is a problem, too."""
        self._others.append(fault)

    def status(self) -> Status:
        see, ours = self._see, self._see.ours()
        away, underlay = see.away(), see.reconciler.underlay_seen
        silences = see.reclaimer.silences()
        silent = tuple(sorted(host for host, seconds in silences.items() if seconds > 3 * see.tenancy.period))
        return Status(
            host=see.host,
            version=version(),
            store=StoreState(see.store_address, *(away or (None, ""))),
            lease=lease_state(self._see),
            underlay=_state(underlay) if underlay else None,
            networks=len(ours.networks),
            endpoints=len(ours.endpoints),
            blocks=sum(map(len, ours.blocks.values())),
            addresses=sum(in_use(lease) for leases in ours.leases.values() for lease in leases.values()),
            hosts=len({see.host, *silences, *self._peers()}),
            silent_hosts=silent,
            apart=tuple(sorted(name for name, outcome in see.outcomes().items() if outcome.state not in AS_IN_CLUSTER)),
            problems=tuple(self.problems()),
        )

    def _peers(self) -> set[str]:
        """Of all networks. They are known at once; silences only after the next look at all hosts."""
        view = self._see.watch.view()
        return set[str]().union(*view.peers().values()) if view else set()

    def problems(self) -> list[str]:
        failing = [f"{duty}: {why}" for upkeep in self._see.upkeeps for duty, why in upkeep.failing().items()]
        found = [*self._see.reconciler.faults(), *map(str, self._see.conflicts.found), *failing]
        found += [fault for other in self._others if (fault := other())]
        if away := self._see.away():
            found.insert(0, f"the store has been away for {away[0]:.0f} s: {away[1]}")
        if fence := lease_state(self._see).fence:
            found.insert(0, fence)
        if unwritten := self._see.unwritten():
            found.insert(0, unwritten)
        return found

    def stalled(self) -> list[str]:
        """Loops that stand still, in sentences."""
        idle, turn = self._see.reconciler.idle(), self._see.watch.idle()
        found = [f"the reconciler has not looked at the kernel for {idle:.0f} s"] if idle > LONGEST_IDLE else []
        if turn > LONGEST_TURN:
            found.append(f"the watch of the store stands still for {turn:.0f} s")
        if not all(listener.runs for listener in self._see.listeners):
            found.append("what the kernel tells of changes is not heard")
        return found + [why for upkeep in self._see.upkeeps if (why := upkeep.stalled())]

    def unready(self) -> list[str]:
        """Why this host cannot serve a container now, in sentences."""
        found = [] if self._see.reconciler.passes else ["the kernel has not been looked at yet"]
        if fault := self._see.reconciler.underlay_fault:
            found.append(f"where other hosts are is not known: {fault}")
        if fence := _fence(self._see.tenancy):
            found.append(fence)
        if unwritten := self._see.unwritten():
            found.append(unwritten)
        if (away := self._see.away()) and not any(self._see.ours().blocks.values()):
            found.append(f"the store has been away for {away[0]:.0f} s, and this host holds no block: {away[1]}")
        return found

    def hosts(self) -> list[Host]:
        return survey.hosts(self._entries(), self._here())

    def networks(self) -> list[Network]:
        return survey.networks(self._entries(), self._here())

    def addresses(self, wanted: IPAddress | None = None) -> list[Address]:
        return survey.addresses(self._entries(), self._here(), wanted)

    def holder(self, wanted: IPAddress) -> list[tuple[str, str, str]]:
        return survey.holder(self._entries(), wanted)

    def picture(self) -> tuple[Picture, list[Container]]:
        """Of the store alone: what was last seen is not shown as if it were so now."""
        entries, here = self._read(), self._here()
        told = {key: entry.value for key, entry in self._see.store.read(records.ENDPOINTS).entries.items()}
        containers = survey.containers(told, here)
        return survey.picture(entries, here, len(containers)), containers

    def _entries(self) -> Entries:
        """With the store away, what was last seen of the networks: who has which address is not among it."""
        try:
            return self._read()
        except StoreUnavailable:
            last = self._see.watch.view()
            if last is None:
                raise
            return last.entries

    def _read(self) -> Entries:
        parts = [self._see.store.read(prefix).entries for prefix in SHOWN]
        return {key: entry.value for part in parts for key, entry in part.items()}

    def _here(self) -> Here:
        ours = self._see.ours()
        engine = self._engine_networks()
        names, containers = _names(ours, engine)
        uses = {where: {a: _use(lease) for a, lease in leases.items()} for where, leases in ours.leases.items()}
        spread, absent = _sentences(self._see.outcomes())
        return Here(self._see.host, self._see.reclaimer.silences(), names, uses, containers, spread, absent)

    def _engine_networks(self) -> Collection[EngineNetwork]:
        try:
            return self._see.engine.networks(SHORT_TIMEOUT)
        except EngineUnavailable:
            return ()  # then without names


def _names(
    ours: Ours, engine: Collection[EngineNetwork]
) -> tuple[dict[Where, str], dict[tuple[Where, IPAddress], str]]:
    pools = {network.id: [("", pool) for pool in network.pools] for network in ours.networks}
    names: dict[Where, str] = {}
    containers: dict[tuple[Where, IPAddress], str] = {}
    for network in engine:
        wheres = pools.get(network.id) or [(p.space, p.pool) for p in network.pools if p in ours.held]
        names |= dict.fromkeys(wheres, network.name)
        for attached in network.endpoints.values():
            for address in attached.addresses:
                containers |= {(where, address): attached.container for where in wheres if address in where[1]}
    return names, containers


def _sentences(outcomes: Mapping[str, Outcome]) -> tuple[dict[str, str], dict[str, str]]:
    """Of the networks that are not as in the cluster; apart, of those that are not here since this takes no part."""
    spread, absent = dict[str, str](), dict[str, str]()
    for name, outcome in outcomes.items():
        if outcome.state is not State.SPREAD:
            found = absent if outcome.state is State.ABSENT else spread
            found[name] = f"{outcome.state.value}: {outcome.why}"
    return spread, absent


def _state(underlay: Underlay) -> UnderlayState:
    return UnderlayState(underlay.dev, underlay.mtu, tuple(map(str, underlay.advertised)))


def in_use(lease: Lease) -> bool:
    return lease.released is None and lease.kind in (ENDPOINT, BORROWED, HOST)


def _use(lease: Lease) -> str:
    return "resting" if lease.released is not None else USES[lease.kind]
