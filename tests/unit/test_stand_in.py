"""Who answers Docker while flannelpy does not run: the real process, and the real `serve` that takes over from it."""

import json
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.engine import FOR_NOW, Unstarted
from plugin import client
from plugin.handshake import ANSWERS, GIVE_WAY
from plugin.listening import listen
from plugin.paths import SOCKET
from plugin.stand_in import SENTENCE, sockets
from tests.unit.plugin_bodies import BODIES, WITHOUT_ARGUMENTS
from tests.unit.plugin_fakes import Plugin
from tests.unit.plugin_process import ROOT, Served, eventually, prepared, systemd


class StandIn(Served):
    """Where a `serve` in the same directory would be."""

    module, log_name = "plugin.stand_in", "stand-in.log"

    def refuses(self) -> bool:
        try:
            with self.ask("NetworkDriver.CreateNetwork") as response:
                return response.status == 502
        except OSError:
            return False


@contextmanager
def running(process: Served) -> Iterator[Served]:
    try:
        yield process
    finally:
        process.kill()


@pytest.fixture
def standing_in(tmp_path: Path) -> Iterator[StandIn]:
    process = StandIn(tmp_path)
    with running(process):
        assert eventually(process.refuses), process.log()
        yield process


def test_docker_learns_from_it_what_it_learns_from_flannelpy(standing_in: StandIn) -> None:
    """Docker asks once, and keeps that for as long as it runs."""
    assert {call.strip("/") for call in ANSWERS} == {*WITHOUT_ARGUMENTS}
    plugin = Plugin()
    for call in ANSWERS:
        real = plugin.client.post(call)
        with standing_in.ask(call.strip("/")) as response:
            assert (response.status, response.headers["Content-Type"]) == (200, real.content_type)
            assert json.load(response) == real.json


def test_all_else_is_refused_with_one_sentence(standing_in: StandIn) -> None:
    for call, body in BODIES.items():
        with standing_in.ask(call, json.dumps(body).encode()) as response:
            assert (response.status, json.load(response)) == (502, {"Err": SENTENCE, "Error": SENTENCE}), call
            assert response.will_close


def test_a_container_that_it_refused_is_started_later() -> None:
    assert SENTENCE.endswith(FOR_NOW)
    assert Unstarted("id", "web1", f"IpamDriver.RequestAddress: {SENTENCE}").passes


def test_an_operators_command_takes_flannelpy_for_stopped(standing_in: StandIn) -> None:
    with pytest.raises(client.NotRunning) as refused:
        client.ask(standing_in.socket, "/Flannelpy.Status")
    assert str(refused.value) == SENTENCE


def test_its_socket_is_as_closed_as_flannelpys_and_gone_when_it_ends(standing_in: StandIn) -> None:
    assert stat.S_IMODE(standing_in.socket.stat().st_mode) == 0o660
    assert standing_in.end() == 0
    assert not standing_in.socket.exists()


def test_who_talks_nonsense_does_not_end_it(standing_in: StandIn) -> None:
    for said in (b"", b"hello\r\n\r\n", b"POST /x HTTP/1.1\r\nContent-Length: many\r\n\r\n", b"\xff" * 99):
        with socket.socket(socket.AF_UNIX) as odd:
            odd.connect(str(standing_in.socket))
            odd.sendall(said)
        assert standing_in.refuses(), said


def test_who_says_nothing_keeps_the_next_one_waiting_for_a_second(standing_in: StandIn) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(standing_in.socket))
        began = time.monotonic()
        assert standing_in.refuses()
    assert time.monotonic() - began < 3


def test_it_gives_way_to_a_flannelpy_and_ends_when_that_serves(standing_in: StandIn) -> None:
    with running(Served(standing_in.path)) as served:
        assert standing_in.process.wait(15) == 0
        assert served.answers()
        assert not standing_in.refuses()
        assert served.end() == 0


def test_it_gives_way_to_one_that_could_not_wait_for_its_word(standing_in: StandIn) -> None:
    """A flannelpy waits for a second, and as long does who says nothing keep others waiting."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(standing_in.socket))
        assert not client.grants(standing_in.socket, GIVE_WAY, timeout=0.1)
    assert eventually(lambda: "flannelpy is starting" in standing_in.log())


def test_it_is_back_when_the_flannelpy_that_it_gave_way_to_fails(standing_in: StandIn) -> None:
    """Docker may start between two tries of a service that is started again and again."""
    state = prepared(standing_in.path, "hold", "broken")
    with running(Served(standing_in.path)) as served:
        assert eventually((state / "loading").exists), served.log()
        assert "flannelpy is starting" in standing_in.log()
        (state / "hold").unlink()
        assert served.process.wait(15) == 1
    assert eventually(standing_in.refuses)
    (state / "broken").unlink()
    with running(Served(standing_in.path)) as served:
        assert standing_in.process.wait(15) == 0
        assert served.answers()


def test_it_is_found_again_after_somebody_removed_its_socket(standing_in: StandIn) -> None:
    standing_in.socket.unlink()
    assert eventually(standing_in.refuses), standing_in.log()
    assert "somebody has removed the socket" in standing_in.log()


def test_one_whose_socket_was_removed_leaves_the_place_to_a_flannelpy(standing_in: StandIn) -> None:
    """Which finds nobody there to give way."""
    standing_in.process.send_signal(signal.SIGSTOP)
    standing_in.socket.unlink()
    with running(Served(standing_in.path)) as served:
        assert eventually(served.answers), served.log()
        standing_in.process.send_signal(signal.SIGCONT)
        assert standing_in.process.wait(15) == 0
        assert served.answers()


def test_a_dead_flannelpys_file_is_not_in_its_way(tmp_path: Path) -> None:
    with running(Served(tmp_path)) as served:
        assert eventually(served.answers), served.log()
    assert served.socket.exists()
    with running(StandIn(tmp_path)) as process:
        assert isinstance(process, StandIn)
        assert eventually(process.refuses), process.log()


def test_beside_a_flannelpy_it_ends_at_once_and_docker_may_start(tmp_path: Path) -> None:
    with running(Served(tmp_path)) as served, systemd(tmp_path / "notify") as told:
        assert eventually(served.answers), served.log()
        with running(StandIn(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify"))) as process:
            assert process.process.wait(10) == 0
            assert told.recv(100) == b"READY=1"
            assert served.answers()


def test_docker_may_start_once_it_listens(tmp_path: Path) -> None:
    with systemd(tmp_path / "notify") as told:
        process = StandIn(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify"))
        with running(process):
            assert told.recv(100) == b"READY=1"
            assert process.refuses()


def test_somebody_who_does_not_answer_keeps_neither_it_nor_docker_for_long(tmp_path: Path) -> None:
    """It neither takes a socket that somebody has, nor gives up."""
    path = tmp_path / "plugins/f.sock"
    hung = listen(path)
    with systemd(tmp_path / "notify") as told:
        process = StandIn(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify"))
        with running(process):
            assert told.recv(100) == b"READY=1"
            assert process.process.poll() is None
            hung.close()
            assert eventually(process.refuses), process.log()


def test_a_socket_that_cannot_be_had_ends_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process = StandIn(tmp_path, FLANNELPY_SOCKET=str(tmp_path / "file/f.sock"))
    assert process.process.wait(10) == 1
    process.kill()
    assert process.log().startswith(f"FLANNELPY_SOCKET is '{tmp_path}/file/f.sock': it cannot be used")
    assert process.log().count("\n") == 1


@pytest.mark.parametrize(
    ("setting", "path"), [({}, SOCKET), ({"FLANNELPY_SOCKET": "here"}, SOCKET), ({"FLANNELPY_SOCKET": "/a/b"}, "/a/b")]
)
def test_a_wrong_path_does_not_keep_it_from_where_docker_looks(setting: dict[str, str], path: str) -> None:
    assert sockets(setting) == (Path(path),)
    assert sockets({"FLANNELPY_SOCKET": "/a, /b"}) == (Path("/a"), Path("/b"))


def test_it_loads_nothing_that_docker_s_start_would_have_to_wait_for() -> None:
    shown = "import sys; before = {*sys.modules}; import plugin.stand_in; print(*{*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", shown], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded - sys.stdlib_module_names == {"plugin"}
