"""What is not as the protocol says is refused before anything is done, with a sentence that names field and value."""

import errno
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.engine import Unstarted
from driver import errors as driver_errors
from driver.errors import NoUnderlay
from ipam import errors as ipam_errors
from ipam.lending import NoAnswer
from ipam.tenancy import LeaseLapsed, StoreForgot
from plugin import errors
from plugin.body import MAX_BODY, shown
from store.interface import Contended, StoreForbidden, StoreUnavailable
from tests.unit.plugin_bodies import BODIES, IDS, NETWORK
from tests.unit.plugin_fakes import Plugin


@pytest.fixture
def plugin() -> Plugin:
    return Plugin()


def for_now(error: type[Exception]) -> str:
    return " (for now)" if issubclass(error, errors.PASSING) else ""


def refusal(plugin: Plugin, call: str, body: object) -> str:
    """The sentence, once it is sure that nothing was done."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = plugin.client.post(f"/{call}", data=data)
    answer = response.get_json(force=True)
    assert (response.status_code, plugin.calls) == (400, [])
    assert set(answer) == {"Err", "Error"}
    assert answer["Err"] == answer["Error"]
    return str(answer["Err"])


def network(**pool: Any) -> dict[str, Any]:
    return {"NetworkID": NETWORK, "IPv4Data": [{"AddressSpace": "flannelpy", "Pool": "10.1.0.0/24", **pool}]}


def endpoint(**interface: Any) -> dict[str, Any]:
    return {**IDS, "Interface": interface}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"   \n", "The request has no body, but this call needs one (for now)"),
        (b"{", "The request is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"{}x", "The request is not JSON: Extra data: line 1 column 3 (char 2)"),
        (b'{"a": "\xff"}', "The request is not UTF-8 (at byte 7)"),
        ('{"a": "b"}'.encode("utf-16"), "The request is not UTF-8 (at byte 0)"),
        (b'{"a": NaN}', "The request is not JSON: it has the value NaN"),
        (b'{"a": -Infinity}', "The request is not JSON: it has the value -Infinity"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', "The request says 'b' twice"),
        (b"[" * 100_000, "The request is nested too deeply"),
        (b'{"a":' * 100_000, "The request is nested too deeply"),
        (b"[1, 2]", "The request must be a JSON map, not [1, 2]"),
        (b"null", "The request must be a JSON map, not null"),
        (b'"text"', "The request must be a JSON map, not 'text'"),
        (b'{"\\ud800": 1}', "The request has a key with half a character in it (a lone surrogate)"),
        (b"{}", "NetworkID is missing"),
    ],
)
def test_bytes_that_are_no_request(plugin: Plugin, body: bytes, sentence: str) -> None:
    assert refusal(plugin, "NetworkDriver.DeleteNetwork", body) == sentence


def test_a_number_of_absurd_length(plugin: Plugin) -> None:
    body = b'{"NetworkID": ' + b"9" * 10_000 + b"}"
    assert refusal(plugin, "NetworkDriver.DeleteNetwork", body).startswith("The request is not JSON: Exceeds the limit")


@pytest.mark.parametrize(
    ("call", "body", "sentence"),
    [
        ("NetworkDriver.DeleteNetwork", {"NetworkID": 7}, "NetworkID must be a string, not a whole number: 7"),
        ("NetworkDriver.DeleteNetwork", {"NetworkID": None}, "NetworkID must be a string, not null: null"),
        (
            "NetworkDriver.DeleteNetwork",
            {"NetworkID": ""},
            "NetworkID '' is not an id of 1 to 64 digits and small letters",
        ),
        (
            "NetworkDriver.DeleteNetwork",
            {"NetworkID": "../x"},
            "NetworkID '../x' is not an id of 1 to 64 digits and small letters",
        ),
        ("NetworkDriver.Leave", {"NetworkID": NETWORK}, "EndpointID is missing"),
        (
            "NetworkDriver.Leave",
            {**IDS, "EndpointID": [True]},
            "EndpointID must be a string, not a list: [true]",
        ),
        ("NetworkDriver.Join", {**IDS, "SandboxKey": {}}, "SandboxKey must be a string, not a map: {}"),
        (
            "NetworkDriver.DiscoverNew",
            {"DiscoveryType": 1.5},
            "DiscoveryType must be a whole number, not a number: 1.5",
        ),
        ("NetworkDriver.CreateNetwork", {**network(), "IPv4Data": {}}, "IPv4Data must be a list, not a map: {}"),
        (
            "NetworkDriver.CreateNetwork",
            {**network(), "IPv6Data": [{"Pool": "fd77::/64"}, {"Pool": False}]},
            "IPv6Data[1].Pool must be a string, not true or false: false",
        ),
        (
            "NetworkDriver.CreateNetwork",
            {**network(), "Options": {"com.docker.network.internal": "yes"}},
            "Options.com.docker.network.internal must be true or false, not a string: 'yes'",
        ),
        (
            "NetworkDriver.CreateNetwork",
            {**network(), "Options": {"com.docker.network.generic": {"vni": 7}}},
            "Options.com.docker.network.generic[...] must be a string, not a whole number: {'vni': 7}",
        ),
        (
            "NetworkDriver.CreateNetwork",
            {**network(), "Options.com": 1, "Options": {"com.docker.network.generic": "x"}},
            "Options.com.docker.network.generic must be a map, not a string: 'x'",
        ),
        (
            "NetworkDriver.CreateNetwork",
            {**network(), "Options": {"com.docker.network.generic": {"a\nb": "c"}}},
            "A key of Options.com.docker.network.generic is not usable: at most 1024 characters, no control characters",
        ),
        (
            "NetworkDriver.CreateNetwork",
            network(AddressSpace="\x1b[2J"),
            r"IPv4Data[0].AddressSpace has control characters in it: '\x1b[2J'",
        ),
        ("NetworkDriver.Join", {**IDS, "SandboxKey": "\ud800"}, r"SandboxKey has control characters in it: '\ud800'"),
        (
            "NetworkDriver.Join",
            {**IDS, "SandboxKey": "k" * 1025},
            f"SandboxKey is longer than 1024 characters: {shown('k' * 1025)}",
        ),
    ],
)
def test_wrong_structure(plugin: Plugin, call: str, body: object, sentence: str) -> None:
    assert refusal(plugin, call, body) == sentence


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            {"NetworkID": NETWORK, "IPv4Data": [], "IPv6Data": None},
            "IPv4Data and IPv6Data are both empty: a network needs a pool of addresses",
        ),
        (
            network(Pool="10.1.0.5/24"),
            "IPv4Data[0].Pool '10.1.0.5/24' has bits set beyond its prefix length: 10.1.0.0/24 may be meant",
        ),
        (
            network(Pool="10.1.0.0/255.255.255.0"),
            "IPv4Data[0].Pool '10.1.0.0/255.255.255.0' is not a prefix such as 10.1.0.0/16 or fd00::/64",
        ),
        (network(Pool=""), "IPv4Data[0].Pool '' is not a prefix such as 10.1.0.0/16 or fd00::/64"),
        (network(Pool="10.1.0.0/33"), "IPv4Data[0].Pool '10.1.0.0/33' has a prefix length over 32"),
        (
            network(Pool="10.1.0.0/08"),
            "IPv4Data[0].Pool '10.1.0.0/08' is not a prefix such as 10.1.0.0/16 or fd00::/64",
        ),
        (
            network(Pool="010.1.0.0/24"),
            "IPv4Data[0].Pool '010.1.0.0/24' is not an IP address such as 10.1.0.5 or fd00::5",
        ),
        (network(Pool="fd77::/64"), "IPv4Data[0].Pool 'fd77::/64' is IPv6 where IPv4 belongs"),
        (
            network(Pool="0.0.0.0/0"),
            "IPv4Data[0].Pool is 0.0.0.0/0, as from --ipam-driver null: use --ipam-driver flannelpy",
        ),
        (
            network(Pool="239.0.0.0/24"),
            "IPv4Data[0].Pool '239.0.0.0/24' reaches into 224.0.0.0/4, which are multicast groups",
        ),
        (
            network(Pool="224.0.0.0/3"),
            "IPv4Data[0].Pool '224.0.0.0/3' reaches into 224.0.0.0/4, which are multicast groups",
        ),
        (
            network(Gateway="10.1.0.1"),
            "IPv4Data[0].Gateway '10.1.0.1' is not an address with a prefix length, like 10.1.0.5/24",
        ),
        (network(Gateway="10.2.0.1/24"), "IPv4Data[0].Gateway '10.2.0.1/24' is not inside the pool 10.1.0.0/24"),
        (
            network(AuxAddresses={"a": "fd77::1/64"}),
            "IPv4Data[0].AuxAddresses['a'] 'fd77::1/64' is IPv6 where IPv4 belongs",
        ),
        ({**network(), "IPv4Data": [{}] * 65}, "IPv4Data has 65 pools; 64 are the most"),
    ],
)
def test_networks_that_make_no_sense(plugin: Plugin, body: object, sentence: str) -> None:
    assert refusal(plugin, "NetworkDriver.CreateNetwork", body) == sentence


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            endpoint(Address="fe80::1%eth0/64"),
            "Interface.Address 'fe80::1%eth0/64' has a zone, which means nothing to another host",
        ),
        (
            endpoint(AddressIPv6="::ffff:10.1.0.5/128"),
            "Interface.AddressIPv6 '::ffff:10.1.0.5/128' is an IPv4 address in IPv6 form: write 10.1.0.5",
        ),
        (
            endpoint(AddressIPv6="fe80::1/64"),
            "Interface.AddressIPv6 'fe80::1/64' reaches into fe80::/10, which are link-local",
        ),
        (
            endpoint(Address="127.0.0.2/8"),
            "Interface.Address '127.0.0.2/8' reaches into 127.0.0.0/8, which are loopback addresses",
        ),
        (endpoint(AddressIPv6="10.1.0.5/24"), "Interface.AddressIPv6 '10.1.0.5/24' is IPv4 where IPv6 belongs"),
        (
            endpoint(MacAddress="03:00:00:00:00:01"),
            "Interface.MacAddress '03:00:00:00:00:01' is not the address of one interface (unicast)",
        ),
        (
            endpoint(MacAddress="00:00:00:00:00:00"),
            "Interface.MacAddress '00:00:00:00:00:00' is not the address of one interface (unicast)",
        ),
        (
            endpoint(MacAddress="02-00-00-00-00-01"),
            "Interface.MacAddress '02-00-00-00-00-01' is not a MAC address such as 02:42:0a:01:00:05",
        ),
        (
            {**IDS, "Options": {"colour": "red"}},
            "Option 'colour' with value 'red' is unknown: endpoints have no --driver-opt",
        ),
    ],
)
def test_endpoints_that_make_no_sense(plugin: Plugin, body: object, sentence: str) -> None:
    assert refusal(plugin, "NetworkDriver.CreateEndpoint", body) == sentence


@pytest.mark.parametrize(
    ("call", "body", "sentence"),
    [
        (
            "RequestPool",
            {"Pool": "10.1.0.9/24"},
            "Pool (--subnet) '10.1.0.9/24' has bits set beyond its prefix length: 10.1.0.0/24 may be meant",
        ),
        (
            "RequestPool",
            {"Pool": "10.1.0.0/24", "V6": True},
            "Pool (--subnet) '10.1.0.0/24' is IPv4 where IPv6 belongs",
        ),
        (
            "RequestPool",
            {"SubPool": "10.1.0.0/24"},
            "SubPool (--ip-range) '10.1.0.0/24' needs a Pool (--subnet) that holds it",
        ),
        (
            "RequestPool",
            {"Pool": "10.1.0.0/24", "SubPool": "10.2.0.0/25"},
            "SubPool (--ip-range) '10.2.0.0/25' is not inside Pool (--subnet) 10.1.0.0/24",
        ),
        (
            "ReleasePool",
            {"PoolID": "LocalDefault/10.1.0.0/24"},
            "PoolID 'LocalDefault/10.1.0.0/24' is not an id that flannelpy gives: one reads like 10.240.0.0/18",
        ),
        (
            "ReleasePool",
            {"PoolID": "10.1.0.0/255.255.0.0"},
            "PoolID '10.1.0.0/255.255.0.0' is not an id that flannelpy gives: one reads like 10.240.0.0/18",
        ),
        (
            "ReleasePool",
            {"PoolID": "10.1.0.0/24,10.2.0.0/24"},
            "PoolID '10.1.0.0/24,10.2.0.0/24' is not an id that flannelpy gives: one reads like 10.240.0.0/18",
        ),
        (
            "RequestAddress",
            {"PoolID": "10.1.0.0/24", "Address": "fd77::5"},
            "Address 'fd77::5' is IPv6 where IPv4 belongs",
        ),
        (
            "RequestAddress",
            {"PoolID": "10.1.0.0/24", "Address": "10.1.0.5/24"},
            "Address '10.1.0.5/24' is not an IP address such as 10.1.0.5 or fd00::5",
        ),
        (
            "RequestAddress",
            {"PoolID": "10.1.0.0/24", "Address": "224.0.0.1"},
            "Address '224.0.0.1' reaches into 224.0.0.0/4, which are multicast groups",
        ),
        ("ReleaseAddress", {"PoolID": "10.1.0.0/24"}, "Address is missing"),
        (
            "ReleaseAddress",
            {"PoolID": "10.1.0.0/24", "Address": ""},
            "Address '' is not an IP address such as 10.1.0.5 or fd00::5",
        ),
    ],
)
def test_addresses_that_make_no_sense(plugin: Plugin, call: str, body: object, sentence: str) -> None:
    assert refusal(plugin, f"IpamDriver.{call}", body) == sentence


def test_a_quoted_value_is_short_and_harmless() -> None:
    assert len(shown("x" * 10_000)) <= 80
    assert len(shown([["y" * 50] * 50] * 50)) == 80
    assert shown("a\x1b[2J\n") == r"'a\x1b[2J\n'"


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("POST", "/NetworkDriver.Fly", 501, "flannelpy does not know the call /NetworkDriver.Fly"),
        ("POST", "/NetworkDriver//Leave", 501, "flannelpy does not know the call /NetworkDriver//Leave"),
        ("POST", "/NetworkDriver.Leave/", 501, "flannelpy does not know the call /NetworkDriver.Leave/"),
        ("POST", "/" + "x" * 200, 501, "flannelpy does not know the call " + shown("/" + "x" * 200)),
        ("GET", "/Plugin.Activate", 405, "/Plugin.Activate is called with POST, not GET"),
        ("OPTIONS", "/Plugin.Activate", 405, "/Plugin.Activate is called with POST, not OPTIONS"),
        ("GET", "/", 501, "flannelpy does not know the call /"),
    ],
)
def test_other_requests_get_json_and_never_404(
    plugin: Plugin, method: str, path: str, status: int, sentence: str
) -> None:
    response = plugin.client.open(method=method, environ_overrides={"PATH_INFO": path})
    assert (response.status_code, response.get_json(force=True)["Err"]) == (status, sentence)
    assert response.content_type == "application/vnd.docker.plugins.v1.2+json"


def test_a_body_that_is_too_large(plugin: Plugin) -> None:
    response = plugin.client.post("/NetworkDriver.Leave", data=b" " * (MAX_BODY + 1))
    assert response.status_code == 413
    assert response.get_json(force=True)["Err"] == "The request is larger than 16777216 bytes"


# errors of our own code


def all_errors() -> Iterator[type[Exception]]:
    for module, base in ((ipam_errors, ipam_errors.IpamError), (driver_errors, driver_errors.DriverError)):
        yield from (kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, base))
    yield from (StoreUnavailable, StoreForbidden, Contended)


@pytest.mark.parametrize("kind", list(all_errors()))
def test_errors_of_our_code_reach_docker_as_their_sentence(plugin: Plugin, kind: type[Exception]) -> None:
    plugin.fail_with(kind("no room\n left in 10.1.0.0/24"))
    for call in ("NetworkDriver.Join", "IpamDriver.RequestAddress"):
        response = plugin.client.post(f"/{call}", json=BODIES[call])
        sentence = f"no room left in 10.1.0.0/24{for_now(kind)}"
        assert response.get_json(force=True) == dict.fromkeys(("Err", "Error"), sentence)
        assert 400 <= response.status_code != 404


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("Consul does not answer"),
        LeaseLapsed("this host has not reached the store for 30 h"),
        StoreForgot("the store has lost what it knew"),
        Contended("other hosts kept changing it"),
        NoAnswer("that host did not answer"),
        NoUnderlay("there is no interface eth1"),
    ],
)
def test_a_refusal_that_passes_is_told_as_such_in_the_words_that_are_looked_for(
    plugin: Plugin, error: Exception
) -> None:
    """A container with a restart policy is started when it has passed (cluster/revive.py)."""
    plugin.fail_with(error)
    said = plugin.client.post("/IpamDriver.RequestAddress", json=BODIES["IpamDriver.RequestAddress"])
    refused = said.get_json(force=True)["Err"]
    assert Unstarted("c1", "web", f"IpamDriver.RequestAddress: {refused}").passes


def test_every_kind_of_error_of_our_code_has_its_status() -> None:
    assert set(all_errors()) - {StoreForbidden} <= set(errors.STATUS)


def test_an_error_without_words_still_says_something(plugin: Plugin) -> None:
    plugin.fail_with(StoreForbidden())
    response = plugin.client.post("/NetworkDriver.Leave", json=IDS)
    said = response.get_json(force=True)["Err"]
    assert (response.status_code, said) == (503, "StoreForbidden, without a word why (for now)")


def test_anything_else_is_logged_and_docker_is_told_where(plugin: Plugin, caplog: pytest.LogCaptureFixture) -> None:
    plugin.fail_with(ZeroDivisionError("secret"))
    response = plugin.client.post("/NetworkDriver.Leave", json=IDS)
    assert response.status_code == 500
    assert response.get_json(force=True)["Err"] == (
        "/NetworkDriver.Leave failed because of an error in flannelpy: see its log on this host"
    )
    logged = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert logged.exc_info
    assert isinstance(logged.exc_info[1], ZeroDivisionError)


def test_one_that_runs_out_of_descriptors_says_so(plugin: Plugin) -> None:
    plugin.fail_with(OSError(errno.EMFILE, "Too many open files"))
    response = plugin.client.post("/NetworkDriver.Leave", json=IDS)
    said = response.get_json(force=True)["Err"]
    assert response.status_code == 503
    assert said.startswith("flannelpy on this host has no file descriptors left")
    assert said.endswith("(for now)")
