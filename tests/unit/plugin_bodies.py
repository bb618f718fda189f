"""One body per call as Docker really sends it (daemon/libnetwork/{drivers,ipams}/remote/api/api.go)."""

from typing import Any

NETWORK = "8f3b1d" + "0" * 58
ENDPOINT = "c2a9e7" + "1" * 58
IDS = {"NetworkID": NETWORK, "EndpointID": ENDPOINT}
PORTS = {
    "com.docker.network.endpoint.exposedports": [{"Proto": 6, "Port": 80}],
    "com.docker.network.portmap": [
        {"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080}
    ],
}

WITHOUT_ARGUMENTS = (
    "Plugin.Activate",
    "NetworkDriver.GetCapabilities",
    "IpamDriver.GetCapabilities",
    "IpamDriver.GetDefaultAddressSpaces",
)

BODIES: dict[str, dict[str, Any]] = {
    "NetworkDriver.GwAllocCheck": {
        "Options": {"com.docker.network.generic": {"backend": "vxlan"}, "com.docker.network.enable_ipv6": False}
    },
    "NetworkDriver.AllocateNetwork": {
        "NetworkID": NETWORK,
        "Options": {"vni": "7"},
        "IPv4Data": [{"AddressSpace": "GlobalDefault", "Pool": "10.1.0.0/24", "Gateway": "10.1.0.1/24"}],
        "IPv6Data": None,
    },
    "NetworkDriver.FreeNetwork": {"NetworkID": NETWORK},
    "NetworkDriver.CreateNetwork": {
        "NetworkID": NETWORK,
        "Options": {
            "com.docker.network.generic": {"backend": "host-gw", "com.docker.network.driver.mtu": "1400"},
            "com.docker.network.enable_ipv4": True,
            "com.docker.network.enable_ipv6": True,
            "com.docker.network.internal": True,
        },
        "IPv4Data": [
            {
                "AddressSpace": "flannelpy",
                "Pool": "10.77.0.0/16",
                "Gateway": "10.77.0.1/16",
                "AuxAddresses": {"printer": "10.77.0.5/16"},
            }
        ],
        "IPv6Data": [{"AddressSpace": "flannelpy", "Pool": "fd77::/64", "Gateway": "fd77::1/64"}],
    },
    "NetworkDriver.DeleteNetwork": {"NetworkID": NETWORK},
    "NetworkDriver.CreateEndpoint": {
        **IDS,
        "Interface": {"Address": "10.77.3.2/32", "AddressIPv6": "fd77::3:3/128", "MacAddress": ""},
        "Options": {**PORTS, "com.docker.network.endpoint.dnsservers": ["192.0.2.53"]},
    },
    "NetworkDriver.Join": {**IDS, "SandboxKey": "/var/run/docker/netns/0123456789ab", "Options": PORTS},
    "NetworkDriver.ProgramExternalConnectivity": {
        **IDS,
        "Options": {**PORTS, "com.docker.network.driver.private.no_proxy_6to4": False},
    },
    "NetworkDriver.RevokeExternalConnectivity": IDS,
    "NetworkDriver.EndpointOperInfo": IDS,
    "NetworkDriver.Leave": IDS,
    "NetworkDriver.DeleteEndpoint": IDS,
    "NetworkDriver.DiscoverNew": {
        "DiscoveryType": 1,
        "DiscoveryData": {"Address": "192.0.2.1", "BindAddress": "192.0.2.1", "Self": True},
    },
    "NetworkDriver.DiscoverDelete": {
        "DiscoveryType": 1,
        "DiscoveryData": {"Address": "192.0.2.1", "BindAddress": "192.0.2.1", "Self": False},
    },
    "IpamDriver.RequestPool": {
        "AddressSpace": "flannelpy",
        "Pool": "10.77.0.0/16",
        "SubPool": "10.77.8.0/24",
        "Options": {"block": "27"},
        "V6": False,
    },
    "IpamDriver.ReleasePool": {"PoolID": "10.77.0.0/16,10.77.8.0/24"},
    "IpamDriver.RequestAddress": {
        "PoolID": "10.77.0.0/16",
        "Address": "10.77.0.1",
        "Options": {"RequestAddressType": "com.docker.network.gateway"},
    },
    "IpamDriver.ReleaseAddress": {"PoolID": "10.77.0.0/16", "Address": "10.77.3.2"},
}
