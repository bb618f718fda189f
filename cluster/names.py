"""What the resolver of this host must know: the members of the networks that this host has, and who may ask here."""

from collections.abc import Callable, Collection, Mapping

from driver.journal import Journal
from driver.model import Endpoint, Network
from names.messages import Key, Member, Update
from store import records


class Names:
    def __init__(
        self,
        journal: Journal,
        host: str,
        everybody: Callable[[], Mapping[str, records.Endpoint]],
        own: Callable[[], Mapping[str, records.Endpoint] | None],
        silent: Callable[[], Collection[str]],
    ) -> None:
        """`everybody` gives the endpoints as the store last had them, `own` those that this host is sure of, `silent`
        the hosts that may be dead."""
        self._journal, self._host, self._everybody, self._own = journal, host, everybody, own
        self._silent = silent
        self._members: dict[Key, tuple[records.Endpoint, Member]] = {}

    def known(self) -> Update:
        """All of it. A member that did not change is the same object as before."""
        networks, endpoints = self._journal.networks(), self._journal.all_endpoints()
        named = named_here(networks, endpoints, self._host, self._everybody(), self._own())
        silent = self._silent()
        self._members = {
            key: self._member(key, record, records.host_of_endpoint(key) in silent) for key, record in named.items()
        }
        return Update(
            {key: member for key, (_, member) in self._members.items()},
            askers(networks, endpoints),
            {str(network.pools[0]): tuple(map(str, network.pools)) for network in networks},
        )

    def _member(self, key: Key, record: records.Endpoint, silent: bool) -> tuple[records.Endpoint, Member]:
        known = self._members.get(key)
        if known is not None and known[1].silent is silent and (known[0] is record or known[0] == record):
            return known
        network, addresses = str(records.pool_of_key(key)), tuple(map(str, record.addresses))
        return record, Member(network, record.network, record.name, record.names, addresses, silent)


def named_here(
    networks: Collection[Network],
    endpoints: Collection[Endpoint],
    host: str,
    everybody: Mapping[str, records.Endpoint],
    own: Mapping[str, records.Endpoint] | None,
) -> dict[str, records.Endpoint]:
    """The endpoints in the networks of this host. What the store says of this host itself counts only until Docker
    was asked, and never for an endpoint that is gone."""
    pools = {network.pools[0] for network in networks}
    found = {
        key: record
        for key, record in everybody.items()
        if records.pool_of_key(key) in pools and records.host_of_endpoint(key) != host
    }
    if own is None:
        first = {network.id: network.pools[0] for network in networks}
        here = {records.endpoint_key(first[e.network_id], host, e.id) for e in endpoints if e.network_id in first}
        own = {key: everybody[key] for key in here & everybody.keys()}
    return found | dict(own)


def askers(networks: Collection[Network], endpoints: Collection[Endpoint]) -> dict[str, tuple[str, ...] | None]:
    """Each container's addresses with all the networks that it is in."""
    first = {network.id: str(network.pools[0]) for network in networks}
    of_container: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        if endpoint.network_id in first:
            of_container.setdefault(endpoint.sandbox or endpoint.id, []).append(endpoint)
    found: dict[str, tuple[str, ...] | None] = {}
    for mine in of_container.values():
        in_networks = tuple(sorted({first[endpoint.network_id] for endpoint in mine}))
        found |= {str(address): in_networks for endpoint in mine for address in endpoint.addresses}
    return found
