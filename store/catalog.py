"""Services in Consul's catalog, under nodes of our own that no Consul agent has.

Registered there and not with an agent: an agent takes out what it does not know itself, a host need not have one, and
what a host leaves behind can be taken away by any other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from store.ip import IPAddress

TAGS = {4: "lan_ipv4", 6: "lan_ipv6"}  # under which Consul's DNS looks for an address of the family it was asked for


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    addresses: tuple[IPAddress, ...]  # one, or one of each family; the first is the one of who asks for no family
    port: int  # 0: none


class Catalog(Protocol):
    def services(self, node: str) -> Mapping[str, Service]:
        """A node's services by id; none if the node is not there."""

    def register(self, node: str, address: IPAddress, service_id: str, service: Service) -> None: ...

    def deregister(self, node: str, service_id: str | None = None) -> None:
        """Take away one service, or the node with all of them; what is not there is fine."""


def registration(node: str, address: IPAddress, service_id: str, service: Service) -> dict[str, Any]:
    """As PUT /v1/catalog/register has it. Without a check a service counts as healthy."""
    return {
        "Node": node,
        "Address": str(address),
        "NodeMeta": {"external-node": "true"},
        "Service": {
            "ID": service_id,
            "Service": service.name,
            "Address": str(service.addresses[0]),
            "TaggedAddresses": {
                TAGS[address.version]: {"Address": str(address), "Port": service.port} for address in service.addresses
            },
            "Port": service.port,
            "Meta": {"managed-by": "flannelpy"},
        },
    }
