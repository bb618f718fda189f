"""The network as the cluster knows it and as this host keeps it say the same."""

from dataclasses import fields, replace
from ipaddress import ip_address, ip_network

from driver.network_driver import _local, _spec
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
    assert _spec(_local("n", SPEC, SPEC.mtu)) == SPEC
    assert _spec(replace(_local("n", SPEC, None), mtu=None)) == replace(SPEC, mtu=None)
