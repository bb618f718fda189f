"""Gathers what the doctor's checks judge, within seconds: questions to others run beside the look at this host."""

import random
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeVar

from cluster.conflicts import conflicts
from cluster.dockerd import SHORT_TIMEOUT, EngineUnavailable
from cluster.engine import EngineNetwork
from driver import clocks, nft, sysctl
from driver.backends.interface import Remote, Underlay
from driver.errors import KernelError
from driver.kernel.look import Look
from driver.model import ENDPOINT_LINK, NETWORK_LINK, Endpoint, Network
from driver.verdict import FORWARD, INPUT, PREROUTING, Drop, Packet, drops
from operations.checks import examine
from operations.facts import Facts
from operations.lookup import Lookup, Question, Questions, whom_to_ask
from operations.model import Diagnosis
from operations.observer import Sources, given_by_host, lease_state
from operations.reach import MOST_ASKED, Reached, reach, ways
from operations.survey import shared_addresses
from store import records
from store.faulty import faulty
from store.interface import Snapshot, StoreForbidden, StoreUnavailable
from store.ip import IPAddress, IPNetwork, contains

PATIENCE = 1.25  # seconds for the store, and for what is asked of the Engine before the doctor looks
ENGINES = 3.0  # seconds for the Engine's list, beside the look at this host and the probes, which may take as long
MOST_LOOKUPS = 4
WINDOW = 0.5  # seconds in which counters are watched, at least
QUIET = 3  # periods without a beat
T = TypeVar("T")
Networks = Sequence[tuple[Network, tuple[Remote, ...] | None]]


class Doctor:
    def __init__(self, sources: Sources) -> None:
        self._see = sources

    def diagnose(self, lookups: Sequence[Lookup] = ()) -> Diagnosis:
        """`lookups`: what containers were told that were asked `questions`."""
        facts = self.gather(lookups)
        asked = {each.way.remote.host for each in facts.reached}
        return Diagnosis(facts.host, examine(facts), len(asked), facts.left_out)

    def gather(self, lookups: Sequence[Lookup]) -> Facts:
        see, ours, began = self._see, self._see.ours(), time.monotonic()
        before = _dropped()
        underlay, networks = see.reconciler.underlay_seen, self._networks(ours.networks)
        pool = ThreadPoolExecutor(3)
        told = pool.submit(_clocks, networks)
        engine = pool.submit(see.engine.networks, SHORT_TIMEOUT)
        leases = pool.submit(see.store.read, records.LEASES)
        pool.shutdown(wait=False)
        lost = see.reconciler.underlay_fault
        snapshot, store_error, forbidden = self._store(leases)
        given = given_by_host(snapshot) if snapshot is not None else {}
        entries = self._entries(snapshot)
        reached, left_out, unprobed = _reach(underlay, networks, given)
        known, engine_error = self._engine(engine, max(began + ENGINES - time.monotonic(), 0))
        look = _Host(underlay, networks, ours.endpoints)
        time.sleep(max(began + WINDOW - time.monotonic(), 0))
        found = set(conflicts(ours, known)) & set(conflicts(see.ours(), known))
        silences = see.reclaimer.silences().items()
        return Facts(
            host=see.host,
            store=see.store_address,
            store_error=store_error,
            forbidden=forbidden,
            faulty=tuple(faulty(entries)),
            skew=see.skew(),
            clocks=told.result(),
            lease=lease_state(see),
            silent={host: seconds for host, seconds in silences if seconds > QUIET * see.tenancy.period},
            engine_error=engine_error,
            shared=shared_addresses(entries),
            conflicts=tuple(map(str, found)),
            garbage=tuple(map(str, see.collector.suspected())),
            faults=tuple(fault for fault in see.reconciler.faults() if fault != lost),
            lost=lost,
            failing={duty: why for upkeep in see.upkeeps for duty, why in upkeep.failing().items()},
            underlay=underlay,
            networks=tuple(ours.networks),
            foreign=tuple(look.foreign()),
            forward_drops=look.forward_drops(),
            tunnel_drops=look.tunnel_drops(),
            not_forwarding=tuple(look.not_forwarding()),
            unguarded=tuple(look.unguarded()),
            reached=tuple(reached),
            left_out=left_out,
            unprobed=unprobed,
            lookups=tuple(lookups),
            dropped={reason: count - before.get(reason, count) for reason, count in _dropped().items()},
            bad_checksums=see.checksums.many,
            disk=_disk(see.state_dir / "host.db"),
            unwritten=see.unwritten(),
        )

    def _entries(self, leases: Snapshot | None) -> dict[str, bytes]:
        """What was last seen below `pools/`, and these."""
        view = self._see.watch.view()
        told = {key: entry.value for key, entry in leases.entries.items()} if leases else {}
        return {**(view.entries if view else {}), **told}

    def _networks(self, networks: Collection[Network]) -> Networks:
        view = self._see.watch.view()
        return [(network, view.remotes(network, self._see.host) if view else None) for network in networks]

    def questions(self) -> Questions:
        """In each of some networks one container here asks for one elsewhere, if somebody does that for flannelpy."""
        pool = ThreadPoolExecutor(1)
        asked = pool.submit(lambda: Questions(tuple(self._questions())))
        pool.shutdown(wait=False)
        with suppress(EngineUnavailable, TooLate):  # the diagnosis tells of that
            return asked.result(PATIENCE)
        return Questions(())

    def _questions(self) -> Iterator[Question]:
        see = self._see
        shapes = {network.id: network for network in see.ours().networks if not network.internal}
        whom = {key: found for key, each in shapes.items() if (found := whom_to_ask(see.resolvers, each.pools))}
        here = [each for each in see.engine.networks(SHORT_TIMEOUT) if each.endpoints and each.id in whom]
        askers = {each.id: next(iter(each.endpoints.values())).container for each in here[:MOST_LOOKUPS]}
        pids = see.engine.pids_of([*askers.values()])
        for key, asker in askers.items():
            other = _elsewhere(see.attached(), see.host, shapes[key])
            if other and asker in pids:
                yield Question(asker, pids[asker], other.name, other.addresses[0], whom[key])

    def _store(self, asked: "Future[Snapshot]") -> tuple[Snapshot | None, str | None, bool]:
        """What it holds, or why it does not say; whether that is for want of a right."""
        if away := self._see.away():
            return None, away[1], False
        try:
            return asked.result(PATIENCE), None, False
        except StoreForbidden as error:
            return None, str(error), True
        except StoreUnavailable as error:
            return None, str(error), False
        except TooLate:
            return None, f"no answer in {PATIENCE} s", False

    def _engine(
        self, asked: "Future[list[EngineNetwork]]", patience: float
    ) -> tuple[Sequence[EngineNetwork], str | None]:
        try:
            return asked.result(patience), None
        except EngineUnavailable as error:
            return (), str(error)
        except TooLate:
            return (), f"the Docker Engine has not answered in {ENGINES:.0f} s"


def _reach(
    underlay: Underlay | None, networks: Networks, given: dict[str, list[IPAddress]]
) -> tuple[list[Reached], int, str]:
    """Who answers, how many were not asked, and why nobody was."""
    if underlay is None:
        return [], 0, ""
    asked, left_out = ways(underlay, networks)
    try:
        return reach(underlay, asked, given), left_out, ""
    except OSError as error:
        return [], 0, str(error)


def _clocks(networks: Networks) -> dict[str, float]:
    hosts = {remote.host: remote.address(4) for _, remotes in networks for remote in remotes or ()}
    known = {host: address for host, address in hosts.items() if isinstance(address, IPv4Address)}
    try:
        return clocks.ahead(dict(random.sample(sorted(known.items()), min(len(known), MOST_ASKED))), WINDOW)
    except OSError:  # without the right to ask: the probes tell of that
        return {}


def _elsewhere(attached: Mapping[str, records.Endpoint], host: str, network: Network) -> records.Endpoint | None:
    """A container of that network on another host."""
    for key, endpoint in attached.items():
        if records.host_of_endpoint(key) != host and any(a in network.pools[0] for a in endpoint.addresses):
            return endpoint
    return None


class _Host:
    """A look at this host's kernel."""

    def __init__(self, underlay: Underlay | None, networks: Networks, endpoints: Sequence[Endpoint]) -> None:
        self._underlay, self._networks, self._endpoints = underlay, networks, endpoints
        self._ruleset: Any = None

    def foreign(self) -> Iterator[tuple[IPNetwork, str]]:
        """Routes, and addresses as their prefixes, that are not ours and lie within a pool of ours."""
        pools = [pool for network, _ in self._networks for pool in network.pools]
        with Look() as look:
            names = {link.index: link.name for link in look.links()}
            routes = [(prefix, names.get(index or 0, "?")) for prefix, index in look.foreign_routes()]
            addresses = [(address.network, names.get(index, "?")) for index, address in look.addresses()]
        for prefix, dev in dict.fromkeys([*routes, *addresses]):
            if not dev.startswith((NETWORK_LINK, ENDPOINT_LINK)) and any(contains(pool, prefix) for pool in pools):
                yield prefix, dev

    def forward_drops(self) -> tuple[Drop, ...]:
        found = [drop for packet in self._forwarded() for drop in drops(self._rules(), FORWARD, packet)]
        return tuple(dict.fromkeys(drop for drop in found if drop.certain))

    def _forwarded(self) -> Iterator[Packet]:
        """A packet to and from another host for each network, as far as there are both."""
        for network, remotes in self._networks:
            here = next((endpoint for endpoint in self._endpoints if endpoint.network_id == network.id), None)
            for mine in here.addresses if here else ():
                blocks = (block for remote in remotes or () for block in remote.blocks)
                theirs = next((block[-1] for block in blocks if block.version == mine.version), None)
                if here is not None and theirs is not None:
                    yield Packet(mine, theirs, here.host_link, network.device)
                    yield Packet(theirs, mine, network.device, here.host_link)

    def tunnel_drops(self) -> dict[int, tuple[Drop, ...]]:
        found: dict[int, list[Drop]] = {}
        for network, remotes in self._networks:
            for remote in (remotes or ())[:1] if network.port and self._underlay else ():
                for mine in self._underlay.addresses if self._underlay else ():
                    theirs, dev = remote.address(mine.version), self._underlay.dev if self._underlay else ""
                    if theirs is not None:
                        packet = Packet(theirs, mine, dev, udp_port=network.port)
                        for hook in (PREROUTING, INPUT):
                            found.setdefault(network.port, []).extend(drops(self._rules(), hook, packet))
        certain = {port: dict.fromkeys(drop for drop in some if drop.certain) for port, some in found.items()}
        return {port: tuple(some) for port, some in certain.items() if some}

    def _rules(self) -> Any:
        if self._ruleset is None:
            try:
                self._ruleset = nft.read_ruleset()
            except KernelError:
                self._ruleset = {}  # that nft fails is one of the reconciler's faults
        return self._ruleset

    def not_forwarding(self) -> Iterator[str]:
        devs = {dev for network, _ in self._networks for dev in (network.device,)}
        devs |= {endpoint.host_link for endpoint in self._endpoints}
        names = ["ipv4/ip_forward", *(f"ipv4/conf/{dev}/forwarding" for dev in sorted(devs))] if devs else []
        yield from (name for name in names if sysctl.read(name) == "0")

    def unguarded(self) -> Iterator[str]:
        for endpoint in self._endpoints:
            if sysctl.read(f"ipv4/conf/{endpoint.host_link}/rp_filter") in ("0", "2"):
                yield endpoint.host_link


def _dropped() -> dict[str, int]:
    """By our own rules so far."""
    try:
        return nft.read_dropped()
    except KernelError:
        return {}


def _disk(where: Path) -> tuple[int, int] | None:
    try:
        usage = shutil.disk_usage(where)
    except OSError:
        return None
    return usage.free, usage.total
