"""A network as the hosts have agreed on it, and as this host keeps it: each made from the other."""

from driver.model import Network
from driver.options import DIRECT, GWBRIDGE
from store import records


def network_of(network_id: str, spec: records.NetworkSpec, mtu: int | None) -> Network:
    return Network(
        network_id,
        spec.pools,
        spec.gateways,
        spec.backend,
        spec.vni,
        spec.port,
        mtu,
        spec.internal,
        host_addresses=(),
        direct=spec.gateway == DIRECT,
        direct_routing=spec.direct_routing,
        checksum_offload=spec.checksum_offload,
        fast_path=spec.fast_path,
    )


def spec_of(network: Network) -> records.NetworkSpec:
    return records.NetworkSpec(
        network.pools,
        network.gateways,
        network.backend,
        network.vni,
        network.port,
        network.mtu,
        network.internal,
        gateway=DIRECT if network.direct else GWBRIDGE,
        direct_routing=network.direct_routing,
        checksum_offload=network.checksum_offload,
        fast_path=network.fast_path,
    )
