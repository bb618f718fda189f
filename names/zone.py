"""Who may ask for which name, and what it stands for: a container sees the names of the networks that it is in."""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network
from typing import TypeVar

from names import wire
from names.messages import Key, Member, Update
from names.wire import AAAA, NOERROR, NXDOMAIN, PTR, REFUSED, A
from store.ip import IPAddress, IPNetwork

DOMAIN = "flannelpy"  # names in it are ours alone; Docker answers others by itself where a container here has them
Networks = tuple[str, ...]
V = TypeVar("V")
Kind = tuple[int, bool]  # A or AAAA, and whether of silent hosts
Answer = tuple[int, Sequence[bytes]]  # the code, and the records


class Records:
    """The records of one name, packed; each answer begins with the next one. Members whose host is silent are told
    of apart from the others."""

    __slots__ = ("_by_member", "_packed", "_turn")

    def __init__(self) -> None:
        self._by_member: dict[Key, dict[Kind, list[bytes]]] = {}
        self._packed: dict[Kind, list[bytes]] = {}
        self._turn = 0

    def put(self, key: Key, addresses: Iterable[IPAddress], *, silent: bool) -> None:
        packed: dict[Kind, list[bytes]] = {}
        for address in addresses:
            kind = A if address.version == 4 else AAAA
            packed.setdefault((kind, silent), []).append(wire.address_record(address))
        self._by_member[key] = packed
        self._packed.clear()

    def drop(self, key: Key) -> bool:
        """Whether nobody has the name any more."""
        self._by_member.pop(key, None)
        self._packed.clear()
        return not self._by_member

    def of(self, kind: Kind) -> list[bytes]:
        found = self._packed.get(kind)
        if found is None:
            found = self._packed[kind] = [r for _, some in sorted(self._by_member.items()) for r in some.get(kind, ())]
        if len(found) < 2:
            return found
        self._turn += kind[0] == A  # who asks for both kinds does so in pairs
        start = self._turn % len(found)
        return found[start:] + found[:start]


class Zone:
    """For one thread."""

    def __init__(self) -> None:
        self._members: dict[Key, Member] = {}
        self._askers: dict[str, Networks] = {}
        self._prefixes: dict[str, list[IPNetwork]] = {}
        self._names: dict[tuple[str, str], Records] = {}  # by network and name
        self._owners: dict[tuple[str, IPAddress], Key] = {}

    def apply(self, update: Update) -> None:
        for network, prefixes in update.prefixes.items():
            _set(self._prefixes, network, None if prefixes is None else [ip_network(p) for p in prefixes])
        for address, networks in update.askers.items():
            _set(self._askers, address, networks)
        for key, member in update.members.items():
            self._forget(key)
            if member is not None:
                self._learn(key, member)

    def networks_of(self, address: str) -> Networks | None:
        """The networks of the container that has the address; None if it is no container here."""
        return self._askers.get(address)

    def answer(self, networks: Networks, name: str, kind: int) -> Answer:
        """What a container in these networks is told. REFUSED sends it on to the next server."""
        address = wire.reversed_address(name) if name.endswith(".arpa") else None
        if address is not None:
            return self._names_of(networks, address, kind)
        ours = name.endswith("." + DOMAIN)
        if ours:
            name = name[: -len(DOMAIN) - 1]
        found = [records for network in networks if (records := self._names.get((network, name)))]
        if not found:
            return (NXDOMAIN if ours else REFUSED), ()
        if kind not in (A, AAAA):
            return NOERROR, ()
        return NOERROR, _told(found, kind)

    def _names_of(self, networks: Networks, address: IPAddress, kind: int) -> Answer:
        for network in networks:
            if any(address in pool for pool in self._prefixes.get(network, ())):
                owner = self._owners.get((network, address))
                if owner is None:
                    return NXDOMAIN, ()
                member = self._members[owner]
                record = wire.pointer_record(f"{member.name}.{member.label}.") if kind == PTR else None
                return NOERROR, (record,) if record else ()
        return REFUSED, ()

    def _learn(self, key: Key, member: Member) -> None:
        self._members[key] = member
        addresses = [ip_address(address) for address in member.addresses]
        for name in _spellings(member):
            self._names.setdefault((member.network, name), Records()).put(key, addresses, silent=member.silent)
        for address in addresses:
            self._owners[member.network, address] = key

    def _forget(self, key: Key) -> None:
        member = self._members.pop(key, None)
        if member is None:
            return
        for name in _spellings(member):
            if self._names[member.network, name].drop(key):
                del self._names[member.network, name]
        for address in map(ip_address, member.addresses):
            if self._owners.get((member.network, address)) == key:  # else somebody has it since
                del self._owners[member.network, address]


def _told(found: Iterable[Records], kind: int) -> Sequence[bytes]:
    """A silent host may live, and be cut off from the store alone: its containers are told of where no other is."""
    living = [record for some in found for record in some.of((kind, False))]
    return living or [record for some in found for record in some.of((kind, True))]


def _spellings(member: Member) -> set[str]:
    """`web` and `web.NETWORK`, as Docker has them, in small letters."""
    names = {name.lower() for name in (member.name, *member.names) if name}
    return names | {f"{name}.{member.label.lower()}" for name in names}


def _set(known: dict[str, V], key: str, value: V | None) -> None:
    if value is None:
        known.pop(key, None)
    else:
        known[key] = value
