"""What the resolver of this host must know: the members of the networks that this host has, and who may ask here."""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field

from driver.journal import Journal
from driver.model import Endpoint, Network
from names.messages import Key, Member, Update, changed
from store import records

Askers = dict[str, tuple[str, ...] | None]
Prefixes = dict[str, tuple[str, ...] | None]


@dataclass(frozen=True, slots=True)
class Sight:
    """All that can be told at one moment."""

    host: str  # this one
    askers: Askers = field(default_factory=dict)
    prefixes: Prefixes = field(default_factory=dict)  # of the networks here
    everybody: Mapping[Key, records.Endpoint] = field(default_factory=dict)
    own: Mapping[Key, records.Endpoint] = field(default_factory=dict)
    silent: Set[str] = frozenset()

    def member(self, key: Key) -> Member | None:
        """None if there is no such endpoint in the networks of this host. Its own are as it knows them itself."""
        host = records.host_of_endpoint(key)
        record = (self.own if host == self.host else self.everybody).get(key)
        if record is None or (network := str(records.pool_of_key(key))) not in self.prefixes:
            return None
        addresses = tuple(map(str, record.addresses))
        return Member(network, record.network, record.name, record.names, addresses, host in self.silent)

    def suspects(self, before: "Sight") -> Set[Key]:
        """Endpoints that may be others than before, although nobody changed what the store says of them."""
        own = self.own.keys() | before.own.keys()
        if self.prefixes.keys() != before.prefixes.keys():
            return own | self.everybody.keys() | before.everybody.keys()
        turned = self.silent ^ before.silent
        return own | {key for key in self.everybody if records.host_of_endpoint(key) in turned} if turned else own

    def unlike(self, told: Update, suspects: Iterable[Key]) -> Update:
        """What is otherwise than was told; endpoints only as far as they are suspects."""
        members = {key: self.member(key) for key in suspects}
        return Update(
            {key: member for key, member in members.items() if member != told.members.get(key)},
            changed(told.askers, self.askers),
            changed(told.prefixes, self.prefixes),
        )


class Names:
    """For one thread, but for `heard_of`. A change costs what changed, however many endpoints there are."""

    def __init__(
        self,
        journal: Journal,
        host: str,
        everybody: Callable[[], Mapping[str, records.Endpoint]],
        own: Callable[[], Mapping[str, records.Endpoint] | None],
        silent: Callable[[], Set[str]],
    ) -> None:
        """`everybody` gives the endpoints as the store last had them, `own` those that this host is sure of, `silent`
        the hosts that may be dead."""
        self._journal, self._host, self._everybody, self._own = journal, host, everybody, own
        self._silent = silent
        self._lock = threading.Lock()
        self._heard: set[Key] = set()
        self._sight, self._told = Sight(host), Update()

    def heard_of(self, keys: Iterable[Key]) -> None:
        """What `everybody` gives has changed there."""
        with self._lock:
            self._heard.update(keys)

    def untold(self, afresh: bool) -> Update:
        """What is otherwise than at the last call; everything for one who knows nothing yet."""
        if afresh:
            self._sight, self._told = Sight(self._host), Update()
        with self._lock:
            heard, self._heard = self._heard, set()
        before, self._sight = self._sight, self._look()  # after `heard` was taken: what changes now is heard of again
        news = self._sight.unlike(self._told, heard | self._sight.suspects(before))
        self._told = Update(learned(self._told.members, news.members), self._sight.askers, self._sight.prefixes)
        return news

    def _look(self) -> Sight:
        networks, endpoints = self._journal.networks(), self._journal.all_endpoints()
        everybody, own = self._everybody(), self._own()
        if own is None:
            own = own_before(networks, endpoints, self._host, everybody)
        prefixes: Prefixes = {str(network.pools[0]): tuple(map(str, network.pools)) for network in networks}
        return Sight(self._host, askers(networks, endpoints), prefixes, everybody, own, self._silent())


def learned(told: dict[Key, Member | None], news: Mapping[Key, Member | None]) -> dict[Key, Member | None]:
    """The same dictionary, since there may be very much in it."""
    for key, member in news.items():
        if member is None:
            told.pop(key, None)
        else:
            told[key] = member
    return told


def own_before(
    networks: Collection[Network], endpoints: Collection[Endpoint], host: str, everybody: Mapping[Key, records.Endpoint]
) -> dict[Key, records.Endpoint]:
    """What the store says of this host itself, of endpoints that are still there: until Docker was asked."""
    first = {network.id: network.pools[0] for network in networks}
    here = {records.endpoint_key(first[e.network_id], host, e.id) for e in endpoints if e.network_id in first}
    return {key: everybody[key] for key in here & everybody.keys()}


def askers(networks: Collection[Network], endpoints: Collection[Endpoint]) -> Askers:
    """Each container's addresses with all the networks that it is in."""
    first = {network.id: str(network.pools[0]) for network in networks}
    of_container: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        if endpoint.network_id in first:
            of_container.setdefault(endpoint.sandbox or endpoint.id, []).append(endpoint)
    found: Askers = {}
    for mine in of_container.values():
        in_networks = tuple(sorted({first[endpoint.network_id] for endpoint in mine}))
        found |= {str(address): in_networks for endpoint in mine for address in endpoint.addresses}
    return found
