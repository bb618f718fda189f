"""Where the ports of this host that are published lead: pure functions."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from driver.model import Endpoint
from store.ip import IPAddress


class Entrance(NamedTuple):
    """A published port: an address of this host, or every one of a family (0.0.0.0, ::)."""

    protocol: int  # IP protocol number
    address: IPAddress
    port: int


class Target(NamedTuple):
    """A container's port."""

    address: IPAddress
    port: int


Translations = Mapping[Entrance, Target]


def translations(endpoints: Iterable[Endpoint]) -> dict[Entrance, Target]:
    """One that two containers claim leads to the first: the kernel takes no two elements of one key in a map, and with
    them nothing of the whole transaction."""
    found: dict[Entrance, Target] = {}
    for endpoint in endpoints:
        for one in endpoint.published:
            version = one.host_address.version
            target = next(address for address in endpoint.addresses if address.version == version)
            found.setdefault(Entrance(one.protocol, one.host_address, one.host_port), Target(target, one.port))
    return found


def changed(old: Translations, new: Translations) -> dict[Entrance, Target | None]:
    """What leads elsewhere in `new`, and where; None is nowhere."""
    return {entrance: new.get(entrance) for entrance in {**old, **new} if old.get(entrance) != new.get(entrance)}
