"""Docker's shapes are read as it makes them, and what is made from them reads the same."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from cluster.dockerd import Dockerd, EngineRefused, EngineUnavailable
from cluster.engine import body_of, ipam_of, read_listed, read_network, read_shape
from ipam.model import PoolId

TOLD: dict[str, Any] = {
    "Name": "web",
    "Driver": "flannelpy",
    "EnableIPv6": True,
    "IPAM": {
        "Driver": "flannelpy",
        "Options": {"block": "27"},
        "Config": [
            {"Subnet": "fd77::/64"},
            {
                "Subnet": "10.240.0.0/18",
                "IPRange": "10.240.16.0/20",
                "Gateway": "10.240.0.9/18",  # as older Engines tell one that they chose
                "AuxiliaryAddresses": {"router": "10.240.0.7"},
            },
        ],
    },
    "Internal": True,
    "Attachable": False,
    "Options": {"mtu": "1400"},
    "Labels": {"com.docker.compose.project": "shop"},
}


def test_a_network_is_read_in_one_order_whatever_the_order_it_was_typed_in() -> None:
    shape = read_shape(TOLD)
    assert shape.pools == (ip_network("10.240.0.0/18"), ip_network("fd77::/64"))
    assert shape.gateways == (ip_address("10.240.0.9"),)
    assert shape.labels == (("com.docker.compose.project", "shop"),)
    assert ipam_of(shape) == {
        "Driver": "flannelpy",
        "Options": {"block": "27"},
        "Config": [
            {
                "Subnet": "10.240.0.0/18",
                "IPRange": "10.240.16.0/20",
                "Gateway": "10.240.0.9",
                "AuxiliaryAddresses": {"router": "10.240.0.7"},
            },
            {"Subnet": "fd77::/64"},
        ],
    }
    assert read_shape({**TOLD, "IPAM": ipam_of(shape)}) == shape


def test_a_network_without_ipv4_is_made_so_again() -> None:
    """Engines before 28 say nothing of it, and know none."""
    assert read_shape(TOLD).ipv4
    assert body_of(read_shape(TOLD))["EnableIPv4"]
    shape = read_shape({**TOLD, "EnableIPv4": False, "EnableIPv6": True})
    assert not shape.ipv4
    made = body_of(shape)
    assert (made["EnableIPv4"], made["EnableIPv6"], made["Internal"]) == (False, True, True)
    assert read_shape({**made, "Attachable": False}) == shape


def test_networks_of_any_driver_can_be_read() -> None:
    bare = {"Name": "none", "Driver": "null", "IPAM": {"Driver": "default", "Options": None, "Config": None}}
    assert read_shape(bare).pools == ()
    odd = {**bare, "IPAM": {"Driver": "default", "Config": [{"Subnet": "192.168.7.9/24"}]}}
    assert read_shape(odd).pools == (ip_network("192.168.7.0/24"),)


def test_a_pool_whose_bits_go_beyond_its_prefix_can_be_read() -> None:
    """Other IPAM drivers may answer so, and Docker lists what they answered."""
    config = [{"Subnet": "192.168.7.9/24", "IPRange": "192.168.7.129/25"}]
    odd = {"Id": "n1", "Name": "odd", "Driver": "macvlan", "IPAM": {"Driver": "theirs", "Config": config}}
    pool_id = PoolId(ip_network("192.168.7.0/24"), ip_network("192.168.7.128/25"))
    assert read_network(odd).pools == (pool_id,)
    assert [pool.id for pool in read_listed(odd).leased] == [pool_id]


class Engine(ThreadingHTTPServer):
    """Speaks one version of the API, and remembers what it was asked."""

    def __init__(self) -> None:
        self.version, self.asked = "1.43", list[str]()
        self.creating: tuple[int, Any] = (201, {"Id": "n1", "Warning": ""})
        super().__init__(("127.0.0.1", 0), Answering)

    def answer(self, path: str) -> tuple[int, Any]:
        self.asked.append(path)
        if path.endswith("/networks/create"):
            return self.creating
        if path == "/version":
            return 200, {"ApiVersion": self.version}
        if not path.startswith(f"/v{self.version}/"):
            return 400, {"message": f"client version is too new. Maximum supported API version is {self.version}"}
        return 200, []


class Answering(BaseHTTPRequestHandler):
    server: Engine

    def do_GET(self) -> None:
        status, shape = self.server.answer(self.path)
        body = json.dumps(shape).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        serving = threading.Thread(target=engine.serve_forever, args=(0.01,))
        serving.start()
        yield engine
        engine.shutdown()
        serving.join()


def dockerd(engine: Engine) -> Dockerd:
    return Dockerd(f"tcp://127.0.0.1:{engine.server_address[1]}")


def test_the_engine_is_asked_for_its_version_once(engine: Engine) -> None:
    """For each such question it runs two programs."""
    asking = dockerd(engine)
    for _ in range(3):
        assert asking.running() == {}
    assert engine.asked.count("/version") == 1


def test_what_the_engine_says_of_a_network_that_it_does_not_make_is_told_in_its_words(engine: Engine) -> None:
    asking, shape = dockerd(engine), read_shape(TOLD)
    assert asking.create_network(shape) == "n1"
    engine.creating = (409, {"message": "network with name web already exists"})
    with pytest.raises(EngineRefused, match="network with name web already exists"):
        asking.create_network(shape)


def test_an_older_engine_is_not_asked_for_a_network_without_ipv4(engine: Engine) -> None:
    """It would make one with it."""
    shape = replace(read_shape(TOLD), ipv4=False)
    with pytest.raises(EngineRefused, match="only Engine 28 and later"):
        dockerd(engine).create_network(shape)
    assert [path for path in engine.asked if "create" in path] == []
    engine.version = "1.48"
    assert dockerd(engine).create_network(shape) == "n1"


def test_an_engine_that_follows_another_is_asked_for_its_version(engine: Engine) -> None:
    asking = dockerd(engine)
    asking.running()
    engine.version = "1.41"
    with pytest.raises(EngineUnavailable, match="replaced") as caught:
        asking.running()
    assert not isinstance(caught.value, EngineRefused)  # it would have, if asked in its own words
    assert asking.running() == {}


def test_whoever_follows_its_events_anew_asks_for_its_version(engine: Engine) -> None:
    asking = dockerd(engine)
    asking.running()
    with asking.events(0):
        pass
    assert engine.asked.count("/version") == 2


def test_an_engine_that_did_not_answer_is_asked_for_its_version() -> None:
    with Engine() as gone:
        asking = dockerd(gone)
        asking._version = "1.43"
    with pytest.raises(EngineUnavailable):
        asking.running()
    assert asking._version is None


def test_an_engine_that_is_not_there_is_told_of_in_a_few_words(tmp_path: Path) -> None:
    """And is found out about in no time, for there may be none for days."""
    where = f"unix://{tmp_path}/docker.sock"
    with pytest.raises(EngineUnavailable) as caught:
        Dockerd(where).running()
    assert str(caught.value) == f"the Docker Engine at {where} does not answer: [Errno 2] No such file or directory"
