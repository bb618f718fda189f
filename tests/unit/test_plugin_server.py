"""The real gunicorn on a real socket, with stand-ins for what it serves."""

import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest

from cluster.engine import FOR_NOW
from plugin import server
from plugin.listening import Busy, Place, listen
from plugin.settings import Settings
from plugin.watchdog import Systemd
from tests.lab.commands import wait_until
from tests.unit.plugin_bodies import IDS
from tests.unit.plugin_process import ROOT, Served, eventually, prepared, systemd


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    running = Served(tmp_path)
    try:
        assert eventually(running.answers), running.log()
        yield running
    finally:
        running.kill()


def test_a_request_on_the_socket(served: Served) -> None:
    with served.ask("NetworkDriver.Join", json.dumps(IDS).encode() + b"\n") as response:
        assert response.status == 200
        assert response.headers["Connection"] == "close"
        assert response.headers["Content-Type"] == "application/vnd.docker.plugins.v1.2+json"
        assert json.load(response)["InterfaceName"]["DstPrefix"] == "eth"
    with served.ask("NetworkDriver.Join") as response:
        assert response.status == 400
        assert json.load(response)["Err"] == "The request has no body, but this call needs one (for now)"
    with served.ask("NetworkDriver.Fly", b"{}") as response:
        assert response.status == 501


def test_who_may_open_the_socket_and_what_else_is_left_in_the_file_system(served: Served) -> None:
    mode = served.socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) & ~0o660 == 0
    assert stat.S_IMODE(served.state.stat().st_mode) == 0o700
    assert list((served.path / "home").iterdir()) == []  # gunicorn 25.1 and later would put a control socket there
    assert sorted(path.name for path in served.path.iterdir()) == ["home", "log", "plugins", "state"]


def test_sigterm_ends_it_soon_and_leaves_nothing(served: Served) -> None:
    began = time.monotonic()
    assert served.end() == 0
    assert time.monotonic() - began < 5
    assert not served.socket.exists()
    worker = served.diary()[0].split()[1]
    assert served.diary() == [f"start {worker}", f"stop {worker}"]
    assert worker != str(served.process.pid)


def test_sigterm_lets_a_running_request_finish(served: Served) -> None:
    statuses: list[int] = []

    def ask() -> None:
        with served.ask("NetworkDriver.Leave", json.dumps(IDS).encode()) as response:
            statuses.append(response.status)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until("the request", (served.state / "asked").exists, timeout=30)
    assert served.end() == 0
    asking.join()
    assert statuses == [200]


def test_sigterm_works_when_somebody_removed_the_socket(served: Served) -> None:
    served.socket.unlink()
    assert served.end() == 0
    assert "traceback" not in served.log()


def test_a_socket_that_somebody_removed_is_there_again(served: Served) -> None:
    first = served.diary()[0].split()[1]
    served.socket.unlink()
    assert eventually(served.answers), served.log()
    assert "the socket was removed by somebody, and is made anew" in served.log()
    assert eventually(lambda: len(served.diary()) == 3)
    second = served.diary()[2].split()[1]
    assert served.diary() == [f"start {first}", f"stop {first}", f"start {second}"]
    assert served.end() == 0
    assert not served.socket.exists()


def test_one_whose_place_another_took_leaves_it_to_that_one_until_it_ends(served: Served, tmp_path: Path) -> None:
    served.socket.unlink()
    with listen(served.socket) as other:
        place = Place(served.socket)
        assert eventually(lambda: "the socket was removed, and cannot be made anew" in served.log(), 20)
        assert not place.is_lost()
        served.process.terminate()
        assert served.process.wait(15) == 0
        assert not place.is_lost()
        other.close()


def test_docker_is_told_when_no_descriptor_is_left_and_served_when_there_are_some(served: Served) -> None:
    worker = int(served.diary()[0].split()[1])
    soft, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    assert soft == hard
    used = len(os.listdir(f"/proc/{worker}/fd"))
    for left in range(-2, 2):  # none to accept with, but the one in hand; none to wait with
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (used + left, hard))
        began = time.monotonic()
        with served.ask("NetworkDriver.Join", json.dumps(IDS).encode()) as response:
            assert response.status == 503
            said = json.load(response)["Err"]
        assert time.monotonic() - began < 5
        assert f"no file descriptors left, of {used + left}; `ls -l /proc/{worker}/fd` shows" in said
        assert said.endswith(FOR_NOW)
        with served.ask("Plugin.Activate") as response:
            assert response.status == 200
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (soft, hard))
    with served.ask("NetworkDriver.Join", json.dumps(IDS).encode()) as response:
        assert response.status == 200
    assert len(served.diary()) == 1
    assert "traceback" not in served.log().lower()


def test_requests_run_side_by_side(served: Served) -> None:
    def ask() -> None:
        served.ask("NetworkDriver.Leave", json.dumps(IDS).encode()).close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 4  # each takes one second


def test_a_second_one_is_refused_and_the_first_goes_on(served: Served, tmp_path: Path) -> None:
    other = Served(tmp_path, FLANNELPY_STATE_DIR=str(tmp_path / "other"))
    assert other.process.wait(15) == 1
    assert f"Another flannelpy answers on {served.socket} (process {served.process.pid}): stop it first" in other.log()
    same = Served(tmp_path, FLANNELPY_SOCKET=str(tmp_path / "g.sock"))
    assert same.process.wait(15) == 1
    assert f"Another flannelpy is using the state directory {served.state}: stop it first" in same.log()
    other.kill()
    same.kill()
    assert served.answers()


def test_a_worker_that_is_killed_is_replaced(served: Served) -> None:
    first = served.diary()[0].split()[1]
    os.kill(int(first), signal.SIGKILL)
    assert eventually(lambda: len(served.diary()) == 2)
    second = served.diary()[1].split()[1]
    assert second != first
    assert served.answers()
    assert served.end() == 0
    assert served.diary() == [f"start {first}", f"start {second}", f"stop {second}"]


def test_after_kill_9_of_everything_the_next_one_starts(tmp_path: Path) -> None:
    first = Served(tmp_path)
    assert eventually(first.answers), first.log()
    first.kill()
    assert first.socket.exists()
    second = Served(tmp_path)
    try:
        assert eventually(second.answers), second.log()
        assert second.end() == 0
    finally:
        second.kill()


@pytest.mark.parametrize("hangs", [False, True])
def test_a_worker_dies_with_its_master(served: Served, hangs: bool) -> None:
    """A watchdog kills the master of a worker that hangs, and the next one finds the state directory free."""
    worker = int(served.diary()[0].split()[1])
    if hangs:
        os.kill(worker, signal.SIGSTOP)
    served.kill()
    assert eventually(lambda: not is_running(worker))


def is_running(pid: int) -> bool:
    """Not one that is dead and not yet waited for."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_master_holds_nothing_that_only_the_worker_needs() -> None:
    """As things are when it begins to serve, and forks."""
    serve = "from plugin import cli, server; server.serve = lambda *_: print(*sys.modules); cli._serve(None)"
    done = subprocess.run([sys.executable, "-c", f"import sys; {serve}"], cwd=ROOT, capture_output=True, text=True)
    assert "gunicorn.arbiter" in done.stdout, done.stderr
    assert {"plugin.app", "flask", "docker", "requests", "pyroute2", "sqlite3"}.isdisjoint(done.stdout.split())


def test_hangup_does_not_make_a_second_worker(served: Served) -> None:
    for sign in (signal.SIGHUP, signal.SIGTTIN, signal.SIGUSR2):
        served.process.send_signal(sign)
    assert eventually(lambda: served.log().count("Signal ignored") == 3)
    assert len(served.diary()) == 1
    assert served.answers()


def test_systemd_is_told_once_the_worker_serves(tmp_path: Path) -> None:
    """`docker.service` comes after that, and dockerd's first question finds somebody who answers."""
    hold = prepared(tmp_path, "hold") / "hold"
    with systemd(tmp_path / "notify") as told:
        running = Served(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify"))
        try:
            assert eventually((running.state / "loading").exists)
            told.settimeout(0.3)
            with pytest.raises(TimeoutError):
                told.recv(100)
            hold.unlink()
            told.settimeout(15)
            assert told.recv(100) == b"READY=1"
            assert [line.split()[0] for line in running.diary()] == ["start"]
            assert running.end() == 0
            assert told.recv(100) == b"STOPPING=1"
        finally:
            running.kill()


def test_records_that_cannot_be_opened_end_it_with_a_sentence_and_without_ready(tmp_path: Path) -> None:
    prepared(tmp_path, "broken")
    with systemd(tmp_path / "notify") as told:
        running = Served(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert running.process.wait(15) == 1
        running.kill()
        assert told.recv(100) == b"STOPPING=1"
    assert "store host.db: the file is damaged" in running.log()
    assert "traceback" not in running.log().lower()


def test_sigterm_while_a_worker_fails_to_start_leaves_no_traceback(tmp_path: Path) -> None:
    hold = prepared(tmp_path, "hold", "broken") / "hold"
    running = Served(tmp_path)
    assert eventually((running.state / "loading").exists)
    running.process.terminate()
    assert eventually(lambda: "Handling signal: term" in running.log())
    hold.unlink()
    assert running.process.wait(15) == 0
    running.kill()
    assert "traceback" not in running.log().lower()


def test_systemds_watchdog_is_told_while_the_loops_run_and_only_then(tmp_path: Path) -> None:
    with systemd(tmp_path / "notify") as told:
        running = Served(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="150000", WATCHDOG_PID="1")
        try:
            assert told.recv(100) == b"READY=1"
            assert [told.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            (running.state / "stalls").touch()
            assert eventually(lambda: "watchdog is not told" in running.log())
            told.setblocking(False)
            with suppress(BlockingIOError):
                while told.recv(100):
                    pass
            time.sleep(0.2)
            with pytest.raises(BlockingIOError):
                told.recv(100)
            (running.state / "stalls").unlink()
            told.settimeout(15)
            assert told.recv(100) == b"WATCHDOG=1"
        finally:
            running.kill()


def test_every_log_line_has_the_same_form(tmp_path: Path) -> None:
    running = Served(tmp_path, FLANNELPY_LOG="debug")
    try:
        assert eventually(running.answers), running.log()
    finally:
        running.end()
    line = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warning|error) .+")
    assert [text for text in running.log().splitlines() if not line.fullmatch(text)] == []
    assert "debug answered call=/Plugin.Activate status=200 ms=" in running.log()


# the socket alone


def test_two_starts_at_once_do_not_both_take_the_socket(tmp_path: Path) -> None:
    path, winners = tmp_path / "f.sock", list[socket.socket]()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    def start() -> None:
        with suppress(Busy):
            winners.append(listen(path, patience=0))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
    winners[0].close()


def test_one_that_is_too_busy_to_answer_is_alive_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "f.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(Busy, match=f"Another flannelpy answers on {path}: stop it first"):
            listen(path, patience=0)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "f.sock").write_text("precious")
    with pytest.raises(Busy, match=r"FLANNELPY_SOCKET is '.*/f.sock': there is a file that is not a socket"):
        listen(tmp_path / "f.sock")
    assert (tmp_path / "f.sock").read_text() == "precious"


def test_a_socket_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Busy, match=r"FLANNELPY_SOCKET is '.*': it cannot be used"):
        listen(tmp_path / "file" / "f.sock")


def test_gunicorn_closes_each_connection_and_waits_for_slow_calls() -> None:
    options = server.options(Settings(), [], Systemd())
    assert (options["workers"], options["threads"], options["keepalive"]) == (1, 32, 0)
    assert options["timeout"] >= 60
    assert options["control_socket_disable"]


def test_a_request_takes_its_turn_soon_beside_the_agents_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own 5 ms are waited for again after each write to the disk."""
    turns: list[float] = []
    monkeypatch.setattr(sys, "setswitchinterval", turns.append)
    worker = Mock()
    worker.wsgi.extensions = {"agent": Mock(), "stalled": list}
    server._start_agent(Systemd(), worker)
    assert turns == [0.001]
    worker.wsgi.extensions["agent"].start.assert_called_once_with()
