"""Each call of the two protocols: what Docker sends, what our code is asked, what Docker gets."""

import json
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from driver.model import EndpointRequest, NetworkRequest, PoolData, PortRequest
from driver.network_driver import ADDRESS_SPACE
from ipam.model import AddressRequest, PoolId, PoolRequest
from plugin import handshake
from tests.unit.plugin_bodies import BODIES, ENDPOINT, IDS, NETWORK, WITHOUT_ARGUMENTS
from tests.unit.plugin_fakes import MAC, Plugin

POOL = PoolId(ip_network("10.77.0.0/16"))


@pytest.fixture
def plugin() -> Plugin:
    return Plugin()


def ask(plugin: Plugin, call: str, body: object = None) -> tuple[int, Any]:
    """Like dockerd: no Content-Type, a newline after the JSON, and an odd Host before Docker 25."""
    response = plugin.client.post(
        f"/{call}",
        data=b"" if body is None else json.dumps(body).encode() + b"\n",
        headers={"Accept": "application/vnd.docker.plugins.v1.2+json", "Host": "%2Frun%2Fdocker%2Fplugins%2Fx.sock"},
    )
    assert response.content_type == "application/vnd.docker.plugins.v1.2+json"
    return response.status_code, response.get_json(force=True)


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("Plugin.Activate", {"Implements": ["NetworkDriver", "IpamDriver"]}),
        (
            "NetworkDriver.GetCapabilities",
            {"Scope": "local", "ConnectivityScope": "global", "GwAllocChecker": False},
        ),
        ("NetworkDriver.GwAllocCheck", {"SkipIPv4": False, "SkipIPv6": False}),
        ("NetworkDriver.AllocateNetwork", {"Options": {"vni": "7"}}),
        ("NetworkDriver.FreeNetwork", {}),
        ("NetworkDriver.CreateNetwork", {}),
        ("NetworkDriver.DeleteNetwork", {}),
        ("NetworkDriver.CreateEndpoint", {"Interface": {"MacAddress": MAC}}),
        (
            "NetworkDriver.Join",
            {
                "InterfaceName": {"SrcName": "flcc2a9e711111", "DstPrefix": "eth"},
                "StaticRoutes": [
                    {"Destination": "10.77.0.1/32", "RouteType": 1},
                    {"Destination": "10.77.0.0/16", "RouteType": 0, "NextHop": "10.77.0.1"},
                ],
            },
        ),
        ("NetworkDriver.ProgramExternalConnectivity", {}),
        ("NetworkDriver.RevokeExternalConnectivity", {}),
        ("NetworkDriver.EndpointOperInfo", {"Value": {}}),
        ("NetworkDriver.Leave", {}),
        ("NetworkDriver.DeleteEndpoint", {}),
        ("NetworkDriver.DiscoverNew", {}),
        ("NetworkDriver.DiscoverDelete", {}),
        ("IpamDriver.GetCapabilities", {"RequiresMACAddress": False, "RequiresRequestReplay": False}),
        (
            "IpamDriver.GetDefaultAddressSpaces",
            {"LocalDefaultAddressSpace": "flannelpy", "GlobalDefaultAddressSpace": "flannelpy"},
        ),
        ("IpamDriver.RequestPool", {"PoolID": "10.77.0.0/16,10.77.8.0/24", "Pool": "10.77.0.0/16", "Data": {}}),
        ("IpamDriver.ReleasePool", {}),
        ("IpamDriver.RequestAddress", {"Address": "10.77.0.1/32", "Data": {}}),
        ("IpamDriver.ReleaseAddress", {}),
    ],
)
def test_each_call_is_answered_as_docker_expects(plugin: Plugin, call: str, answer: object) -> None:
    assert ask(plugin, call, BODIES.get(call)) == (200, answer)


@pytest.mark.parametrize(
    ("call", "asked"),
    [
        (
            "NetworkDriver.CreateNetwork",
            (
                "create_network",
                NetworkRequest(
                    NETWORK,
                    (
                        PoolData(
                            ip_network("10.77.0.0/16"),
                            ip_interface("10.77.0.1/16"),
                            "flannelpy",
                            reserved=(ip_address("10.77.0.5"),),
                        ),
                        PoolData(ip_network("fd77::/64"), ip_interface("fd77::1/64"), "flannelpy"),
                    ),
                    {"backend": "host-gw", "com.docker.network.driver.mtu": "1400"},
                    internal=True,
                ),
            ),
        ),
        ("NetworkDriver.DeleteNetwork", ("delete_network", NETWORK)),
        (
            "NetworkDriver.CreateEndpoint",
            (
                "create_endpoint",
                EndpointRequest(
                    NETWORK, ENDPOINT, (ip_interface("10.77.3.2/32"), ip_interface("fd77::3:3/128")), mac=None
                ),
            ),
        ),
        ("NetworkDriver.Join", ("join", NETWORK, ENDPOINT, "/var/run/docker/netns/0123456789ab")),
        (
            "NetworkDriver.ProgramExternalConnectivity",
            ("publish_ports", NETWORK, ENDPOINT, (PortRequest(6, 80, None, 8080, 8080),)),
        ),
        ("NetworkDriver.RevokeExternalConnectivity", ("withdraw_ports", NETWORK, ENDPOINT)),
        ("NetworkDriver.Leave", ("leave", NETWORK, ENDPOINT)),
        ("NetworkDriver.DeleteEndpoint", ("delete_endpoint", NETWORK, ENDPOINT)),
        (
            "IpamDriver.RequestPool",
            ("request_pool", PoolRequest(POOL.pool, ip_network("10.77.8.0/24"), {"block": "27"})),
        ),
        ("IpamDriver.ReleasePool", ("release_pool", PoolId(POOL.pool, ip_network("10.77.8.0/24")))),
        (
            "IpamDriver.RequestAddress",
            ("request_address", AddressRequest(POOL, ip_address("10.77.0.1"), gateway=True)),
        ),
        ("IpamDriver.ReleaseAddress", ("release_address", POOL, ip_address("10.77.3.2"))),
    ],
)
def test_each_call_reaches_our_code_in_our_words(plugin: Plugin, call: str, asked: tuple[object, ...]) -> None:
    ask(plugin, call, BODIES[call])
    assert plugin.calls == [asked]


def test_a_mac_that_was_given_is_never_answered(plugin: Plugin) -> None:
    body = {**IDS, "Interface": {"Address": "10.77.3.2/32", "MacAddress": "02:AB:00:00:00:01"}}
    assert ask(plugin, "NetworkDriver.CreateEndpoint", body) == (200, {"Interface": {}})
    assert plugin.calls == [
        ("create_endpoint", EndpointRequest(NETWORK, ENDPOINT, (ip_interface("10.77.3.2/32"),), "02:ab:00:00:00:01"))
    ]


@pytest.mark.parametrize("call", ["CreateEndpoint", "Join", "ProgramExternalConnectivity"])
def test_a_container_may_publish_the_ports_of_a_telephone_exchange(plugin: Plugin, call: str) -> None:
    """`-p 10000-20000:10000-20000/udp`, each of which Docker names twice."""
    ports = [{"Proto": 17, "Port": port} for port in range(10_000, 20_001)]
    mapped = [{**port, "IP": "", "HostIP": "", "HostPort": port["Port"], "HostPortEnd": port["Port"]} for port in ports]
    options = {"com.docker.network.endpoint.exposedports": ports, "com.docker.network.portmap": mapped}
    body = {**BODIES[f"NetworkDriver.{call}"], "Options": options}
    assert ask(plugin, f"NetworkDriver.{call}", body)[0] == 200


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("NetworkDriver.CreateNetwork", {"NetworkID": NETWORK, "IPv4Data": [{"Pool": "10.1.0.0/24"}]}),
        (
            "NetworkDriver.CreateNetwork",
            {"NetworkID": NETWORK, "Options": None, "IPv4Data": None, "IPv6Data": [{"Pool": "fd77::/64"}]},
        ),
        (
            "NetworkDriver.CreateNetwork",
            {
                "NetworkID": NETWORK,
                "Options": {"com.docker.network.generic": None},
                "IPv4Data": [{"Pool": "10.1.0.0/24", "AuxAddresses": None}],
                "IPv6Data": [],
            },
        ),
        ("NetworkDriver.CreateEndpoint", {**IDS, "Interface": None, "Options": None}),
        ("NetworkDriver.CreateEndpoint", {**IDS, "Interface": {}, "LaterField": {"a": [1]}}),
        ("NetworkDriver.Join", {**IDS, "Options": None}),
        ("NetworkDriver.GwAllocCheck", {"Options": None}),
        ("IpamDriver.RequestPool", {"AddressSpace": "", "Pool": "", "SubPool": "", "Options": None, "V6": True}),
        ("IpamDriver.RequestAddress", {"PoolID": "10.77.0.0/16", "Address": "", "Options": None}),
        (
            "IpamDriver.RequestAddress",
            {"PoolID": "10.77.0.0/16", "Address": "", "Options": {"com.docker.network.endpoint.name": "web"}},
        ),
    ],
)
def test_what_docker_omits_or_nulls_may_be_absent(plugin: Plugin, call: str, body: object) -> None:
    status, _ = ask(plugin, call, body)
    assert status == 200


@pytest.mark.parametrize("call", WITHOUT_ARGUMENTS)
def test_calls_without_arguments_answer_whatever_the_body_is(plugin: Plugin, call: str) -> None:
    bodies: tuple[object, ...] = (None, {}, ["x"])
    assert [ask(plugin, call, body)[0] for body in bodies] == [200, 200, 200]


@pytest.mark.parametrize("call", BODIES)
def test_an_empty_body_changes_nothing(plugin: Plugin, call: str) -> None:
    """dockerd's retry of a broken call (moby#35459)."""
    status, answer = ask(plugin, call)
    assert (status, plugin.calls) == (400, [])
    assert answer["Err"] == answer["Error"] == "The request has no body, but this call needs one (for now)"


def test_the_network_driver_knows_the_address_space_of_our_ipam() -> None:
    assert handshake.ADDRESS_SPACE == ADDRESS_SPACE
