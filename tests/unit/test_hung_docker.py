"""A dockerd that takes connections and answers nothing, as one does that hangs: commands end soon, and say so."""

import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster.dockerd import SHORT_TIMEOUT, Dockerd, EngineUnavailable
from cluster.garbage import Ours
from driver.errors import BadRequest
from driver.model import Endpoint, Network
from operations.doctor import Doctor
from operations.observer import Sources
from operations.trace import Tracer
from plugin import client

SLACK = 1.5  # seconds a busy machine may add
WEB = Network("n1", (ip_network("10.240.0.0/18"),), (ip_address("10.240.0.1"),), "vxlan", 7, 8479, None, False, ())
HERE = Endpoint("e1", "n1", (ip_address("10.240.1.5"),), "")


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[Path]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "docker.sock"))
        listener.listen(50)
        yield tmp_path / "docker.sock"


@pytest.fixture
def see(hung: Path) -> Sources:
    found: Any = SimpleNamespace(
        host="h1",
        resolvers=(ip_address("169.254.53.53"),),
        ours=lambda: Ours([WEB], [HERE], {}, {}, {}),
        engine=Dockerd(f"unix://{hung}"),
        attached=dict,
        watch=SimpleNamespace(view=lambda: None),
        reconciler=SimpleNamespace(underlay_seen=None),
    )
    return cast(Sources, found)


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SHORT_TIMEOUT + SLACK


def test_the_doctor_asks_for_no_names_then(see: Sources) -> None:
    assert Doctor(see).questions().questions == ()


def test_trace_says_that_docker_does_not_answer(see: Sources) -> None:
    with pytest.raises(BadRequest, match=r"no container of this host .*; Docker does not answer, so give an address"):
        Tracer(see).doors("web1", "10.240.1.9")


def test_trace_goes_on_by_addresses_without_asking_again(see: Sources) -> None:
    [door] = Tracer(see).doors("10.240.1.5", "10.240.1.9").doors
    assert door.pid is None


def test_what_is_asked_of_all_containers_ends_with_the_first_silence(see: Sources) -> None:
    assert see.engine.pids_of(["a", "b", "c"]) == {}


def test_an_engine_that_is_away_is_no_other_thing(see: Sources) -> None:
    with pytest.raises(EngineUnavailable, match="does not answer"):
        see.engine.networks(SHORT_TIMEOUT)


def test_a_flannelpy_that_hangs_is_not_called_stopped(hung: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT", 0.2)
    with pytest.raises(client.NotRunning, match=r"^flannelpy runs, and has not answered in 0 s: see its log$"):
        client.ask(hung, "/Flannelpy.Status")
