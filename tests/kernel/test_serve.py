"""The real `flannelpy serve` in a namespace, without Docker and without Consul: what it waits for, and what ends it."""

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kernel.conftest import NamespaceHost, inside
from tests.lab.commands import wait_until

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "plugin.cli")
PATIENCE = 30


class Serve:
    """One, with a directory of its own."""

    def __init__(self, host: NamespaceHost, path: Path, *flags: str, before: Sequence[str] = ()) -> None:
        self.host, self.log_file, self.state = host, path / "log", path / "state"
        self.socket = path / "f.sock"
        own = ("--state-dir", str(self.state), "--socket", str(self.socket), "--docker", f"unix://{path}/none.sock")
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", host.name, *before, *COMMAND, "serve", "--host", "h1", *own, *flags],
                cwd=ROOT,
                stderr=log,
                env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": str(path / "notify")},
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def asked(self, path: str) -> tuple[int, str]:
        def ask() -> tuple[int, str]:
            client = http.client.HTTPConnection("127.0.0.1", 9470, timeout=10)
            try:
                client.request("GET", path)
                answer = client.getresponse()
                return answer.status, answer.read().decode()
            except OSError as error:
                return 0, str(error)
            finally:
                client.close()

        return inside(self.host.name, ask)

    def found(self) -> dict[str, str]:
        """What the doctor says, by the names of its checks."""
        done = self.host.run(*COMMAND, "doctor", "--json", "--socket", str(self.socket))
        return {each["check"]: each["says"] for each in json.loads(done.stdout)["findings"]}

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE)


@contextmanager
def serving(host: NamespaceHost, path: Path, *flags: str, before: Sequence[str] = ()) -> Iterator[Serve]:
    served = Serve(host, path, *flags, before=before)
    try:
        yield served
    finally:
        served.process.kill()
        served.process.wait()


@pytest.fixture
def host(two_hosts: tuple[NamespaceHost, NamespaceHost]) -> NamespaceHost:
    return two_hosts[0]


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(PATIENCE)
        yield listener


def test_an_interface_that_is_not_there_yet_is_waited_for_and_loudly(
    host: NamespaceHost, tmp_path: Path, systemd: socket.socket
) -> None:
    """At boot it may come later than flannelpy, whose end would keep Docker's containers from starting."""
    missing = "there is no interface late0, which FLANNELPY_IFACE names"
    with serving(host, tmp_path, "--iface", "late0", "--address", "192.0.2.77", "--dns", "off") as served:
        assert systemd.recv(100) == b"READY=1"
        said = (503, f"where other hosts are is not known: {missing}\n")
        wait_until("a look at the kernel", lambda: served.asked("/readyz") == said, timeout=PATIENCE)
        assert served.asked("/healthz")[0] == 200
        assert f"not as it should be why={missing!r}" in served.log.replace('"', "'")
        found = served.found()
        assert missing in found["interface"]
        assert not {"kernel", "published address"} & found.keys()

        host.ip("link", "add", "late0", "type", "bridge")
        host.ip("addr", "add", "198.51.100.1/24", "dev", "late0")
        host.ip("link", "set", "late0", "up")
        wait_until("the interface to be seen", lambda: served.asked("/readyz") == (200, "ok\n"), timeout=PATIENCE)
        found = served.found()
        assert "interface" not in found
        assert "192.0.2.77, which its interface late0 does not have (198.51.100.1)" in found["published address"]
        assert served.end() == 0
    assert "traceback" not in served.log.lower()


def test_docker_may_start_although_the_store_does_not_answer(
    host: NamespaceHost, tmp_path: Path, systemd: socket.socket
) -> None:
    """`docker.service` waits for READY=1; nobody is at that address, and so nobody refuses either."""
    with serving(host, tmp_path, "--store", "consul://192.0.2.254:8500", "--dns", "off") as served:
        assert systemd.recv(100) == b"READY=1"
        assert "the store is away" not in served.log
        assert served.asked("/healthz")[0] == 200
        assert served.end() == 0


@pytest.mark.parametrize("what", ["damaged", "full"])
def test_records_that_cannot_be_opened_are_one_sentence(host: NamespaceHost, tmp_path: Path, what: str) -> None:
    before: tuple[str, ...] = ()
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    if what == "damaged":
        (state / "host.db").write_bytes(os.urandom(9000))
    else:
        mount = f'mount -t tmpfs -o size=4k,mode=700 tmpfs {state} && exec "$@"'
        before = ("unshare", "-m", "sh", "-c", mount, "sh")
    with serving(host, tmp_path, before=before) as served:
        assert served.process.wait(PATIENCE) == 1
    reason = "the file is not a SQLite database" if what == "damaged" else "the disk is full"
    assert f"store {state}/host.db: {reason}" in served.log
    assert "traceback" not in served.log.lower()


def test_sigterm_while_it_starts_ends_it_soon_and_without_a_traceback(host: NamespaceHost, tmp_path: Path) -> None:
    with serving(host, tmp_path, "--dns", "off") as served:
        wait_until("the worker", lambda: "Booting worker" in served.log, timeout=PATIENCE)
        assert served.end() == 0
    assert "traceback" not in served.log.lower()
    assert not served.socket.exists()


def test_a_disk_that_is_full_is_told_of_at_once(host: NamespaceHost, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    before = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size=2m,mode=700 tmpfs {state} && exec "$@"', "sh")
    says = "nothing can be written down, so no address is given out: store"
    with serving(host, tmp_path, "--dns", "off", before=before) as served:
        wait_until("flannelpy to be ready", lambda: served.asked("/readyz")[0] == 200, timeout=PATIENCE)
        filler = Path(f"/proc/{served.process.pid}/root{state}/filler")
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(3 << 20))
        assert says in served.asked("/api/status")[1]
        assert says in served.asked("/readyz")[1]
        assert says in served.found()["disk"]
        filler.unlink()
        assert says not in served.asked("/api/status")[1]
        assert served.end() == 0
