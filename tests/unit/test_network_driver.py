"""The network as the cluster knows it and as this host keeps it say the same; and how published ports end."""

from collections.abc import Collection
from dataclasses import fields, replace
from ipaddress import ip_address, ip_network
from typing import Any, cast

import pytest

from driver.agreement import network_of, spec_of
from driver.errors import NetworkConflict
from driver.journal import Journal
from driver.model import Endpoint, PortRequest
from driver.network_driver import NetworkDriver
from driver.ports import Ports
from store.memory import MemoryStore
from store.records import NetworkSpec

SPEC = NetworkSpec(
    pools=(ip_network("10.240.0.0/18"),),
    gateways=(ip_address("10.240.0.1"),),
    backend="host-gw",
    vni=7,
    port=4800,
    mtu=1400,
    internal=True,
    direct_routing=True,
    checksum_offload="off",
    gateway="direct",
)


def test_nothing_of_it_is_lost_on_the_way_to_this_hosts_record_and_back() -> None:
    """Else the host would take its own network for another one."""
    unset = NetworkSpec((), (), "", 0, 0, None, False)
    kept = [f.name for f in fields(NetworkSpec) if f.name != "closing"]
    assert all(getattr(SPEC, name) != getattr(unset, name) for name in kept)
    assert spec_of(network_of("n", SPEC, SPEC.mtu)) == SPEC
    assert spec_of(replace(network_of("n", SPEC, None), mtu=None)) == replace(SPEC, mtu=None)


class Elsewhere:
    """What a driver has beside it here: it notes what would be looked at and removed."""

    def __init__(self) -> None:
        self.looks, self.removed = 0, list[str]()

    def settle(self, about: Collection[str]) -> None:
        pass

    def poke(self) -> None:
        self.looks += 1

    def remove(self, link: str) -> None:
        self.removed.append(link)


@pytest.mark.parametrize("end", ["withdraw_ports", "leave", "delete_endpoint"])
def test_a_published_port_ends_with_whichever_call_comes_first(end: str) -> None:
    """dockerd forgets to revoke what an earlier dockerd has published."""
    journal, elsewhere = Journal(MemoryStore()), Elsewhere()
    ports = Ports(journal.all_endpoints)
    others = cast(Any, elsewhere)
    driver = NetworkDriver(journal, others, others, others, ports, others)
    first, second = (Endpoint(name, "n", (ip_address("10.240.1.5"),), "02:00:00:00:00:05") for name in "ef")
    journal.put_network(network_of("n", replace(SPEC, internal=False), None))
    journal.put_endpoint(first)
    driver.publish_ports("n", first.id, [PortRequest(17, 53, ip_address("127.0.0.1"), 0, 0)])
    [published] = journal.endpoint("n", first.id).published
    again = PortRequest(17, 53, published.host_address, published.host_port, published.host_port)
    with pytest.raises(NetworkConflict, match="is taken"):
        ports.take(second, [again])
    before = elsewhere.looks
    getattr(driver, end)("n", first.id)
    assert not any(endpoint.published for endpoint in journal.all_endpoints())
    assert elsewhere.looks > before
    assert ports.take(second, [again])
    ports.release(second.id)
