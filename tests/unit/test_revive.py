"""Containers that Docker gave up because of us are started, and no others."""

import threading
from collections.abc import Collection, Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from cluster import revive
from cluster.dockerd import EngineRefused, EngineUnavailable
from cluster.engine import ListedNetwork, Unstarted, read_listed, read_unstarted
from cluster.revive import Reviver
from ipam.model import PoolId

LATE = 'error while looking up plugin "flannelpy": plugin "flannelpy" not found'
AWAY = "IpamDriver.RequestAddress: Consul at 192.0.2.1:8500 does not answer (away for 4 s) (for now)"
TAKEN = "IpamDriver.RequestAddress: address 10.240.0.7 is already in use on host h2; choose another"
PORT = "driver failed programming external connectivity: Bind for 0.0.0.0:80 failed: port is already allocated"


def container(error: str, policy: str = "always") -> dict[str, Any]:
    return {"Id": "c1", "Name": "/web", "State": {"Error": error}, "HostConfig": {"RestartPolicy": {"Name": policy}}}


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (LATE, True),
        ("could not resolve driver flannelpy in registry", True),
        ("legacy plugin: dial unix /run/docker/plugins/flannelpy.sock: connect: no such file or directory", True),
        (AWAY, True),
        (f"failed to set up container networking: {AWAY}", True),
        ("failed to create endpoint c on network web: NetworkDriver.CreateEndpoint: no store (for now)", True),
        (TAKEN, False),
        (PORT, False),
        ('exec: "frobnicate (for now)": executable file not found in $PATH', False),
    ],
)
def test_whether_it_was_because_of_us_is_known_by_dockers_words(error: str, passes: bool) -> None:
    assert read_unstarted(container(error)) == Unstarted("c1", "web", error)
    assert Unstarted("c1", "web", error).passes is passes


@pytest.mark.parametrize(("policy", "kept"), [("unless-stopped", True), ("on-failure", False), ("no", False)])
def test_only_what_docker_starts_by_itself_is_looked_after(policy: str, kept: bool) -> None:
    assert (read_unstarted(container(LATE, policy)) is not None) is kept


def test_a_container_that_ended_by_itself_or_was_stopped_stays_so() -> None:
    assert read_unstarted(container("")) is None


class Engine:
    """Docker with containers that do not run: each with what Docker said last, and what it says to the next tries."""

    def __init__(self, **errors: str) -> None:
        self.errors = errors
        self.answers: dict[str, list[Exception]] = {}
        self.tried: list[str] = []
        self.hears = threading.Semaphore(0)
        self.networks: list[ListedNetwork] = []
        self.asked: set[str] = set()

    def listed(self) -> list[ListedNetwork]:
        return self.networks

    def unstarted(self, networks: Collection[str]) -> list[Unstarted]:
        self.asked = set(networks)
        return [Unstarted(name, name, error) for name, error in self.errors.items()]

    def start(self, container_id: str) -> None:
        self.tried.append(container_id)
        self.hears.release()
        if answers := self.answers.get(container_id):
            self.errors[container_id] = str(answers[0])
            raise answers.pop(0)
        del self.errors[container_id]


def test_one_that_cannot_be_started_does_not_keep_the_next_one_down() -> None:
    engine = Engine(one=LATE, two=AWAY)
    engine.answers["one"] = [EngineRefused("still no driver")]
    Reviver(engine, lambda: ["n1"], list).look()
    assert engine.tried == ["one", "two"]


def listed(network_id: str, ipam_driver: str, subnet: str) -> ListedNetwork:
    ipam = {"Driver": ipam_driver, "Config": [{"Subnet": subnet}]}
    return read_listed({"Id": network_id, "Name": network_id, "Driver": "bridge", "IPAM": ipam})


def test_networks_of_other_drivers_are_looked_after_if_their_addresses_are_ours() -> None:
    engine = Engine(one=LATE)
    engine.networks = [
        listed("lan", "flannelpy", "10.77.0.0/24"),
        listed("dockers", "default", "10.77.0.0/24"),
        listed("anothers", "another", "10.78.0.0/24"),
    ]
    held = {PoolId(ip_network("10.77.0.0/24"))}
    Reviver(engine, list, lambda: held).look()
    assert engine.asked == {"lan"}
    assert engine.tried == ["one"]


def test_what_failed_for_another_reason_is_not_started() -> None:
    engine = Engine(taken=TAKEN, port=PORT)
    Reviver(engine, lambda: ["n1"], list).look()
    assert engine.tried == []


def test_one_that_was_given_up_because_of_us_is_tried_until_it_runs_whatever_the_next_tries_met() -> None:
    engine = Engine(one=AWAY)
    engine.answers["one"] = [EngineRefused(PORT), EngineUnavailable("timed out"), EngineRefused(TAKEN)]
    reviver = Reviver(engine, lambda: ["n1"], list)
    for _ in range(6):
        reviver.look()
    assert engine.tried == ["one"] * 4


def test_one_that_a_user_started_and_stopped_meanwhile_is_left_alone() -> None:
    engine = Engine(one=AWAY)
    engine.answers["one"] = [EngineRefused(PORT)]
    reviver = Reviver(engine, lambda: ["n1"], list)
    reviver.look()
    del engine.errors["one"]  # it ran: Docker has no error of it any more
    reviver.look()
    engine.errors["one"] = PORT  # and failed, the next time that the user started it
    reviver.look()
    assert engine.tried == ["one"]


@pytest.fixture
def running() -> Iterator[tuple[Engine, Reviver]]:
    engine = Engine()
    reviver = Reviver(engine, lambda: ["n1"], list)
    reviver.start()
    yield engine, reviver
    reviver.stop()


def test_as_long_as_one_is_left_nobody_needs_to_say_that_the_reason_has_passed(
    running: tuple[Engine, Reviver], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, reviver = running
    monkeypatch.setattr(revive, "APART", 0.01)
    monkeypatch.setattr(revive, "LONGEST", 0.02)
    engine.answers["one"] = [EngineRefused(AWAY)] * 10
    engine.errors["one"] = AWAY
    reviver.resync()
    for _ in range(11):
        assert engine.hears.acquire(timeout=5)


def test_a_poke_is_enough(running: tuple[Engine, Reviver]) -> None:
    engine, reviver = running
    engine.errors["one"] = AWAY
    reviver.poke()
    assert engine.hears.acquire(timeout=5)
