"""The real `serve` as a process of its own, with stand-ins for what it serves, and who watches it: systemd, clients."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("plugin.moby.localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.close()
            raise


class Served:
    """A running `serve` in a directory of its own."""

    module, log_name = "tests.unit.plugin_serve", "log"

    def __init__(self, path: Path, **environ: str) -> None:
        self.path, self.socket, self.state = path, path / "plugins" / "f.sock", path / "state"
        (path / "home").mkdir(exist_ok=True)
        self._log = (path / self.log_name).open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module],
            cwd=ROOT,
            stderr=self._log,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(path / "home"),
                "XDG_RUNTIME_DIR": str(path / "home"),
                "TMPDIR": str(path),
                "FLANNELPY_SOCKET": str(self.socket),
                "FLANNELPY_STATE_DIR": str(self.state),
                **environ,
            },
        )

    def ask(self, call: str, body: bytes = b"", method: str = "POST") -> http.client.HTTPResponse:
        connection = UnixConnection(self.socket)
        connection.request(method, f"/{call}", body, {"Accept": "application/vnd.docker.plugins.v1.2+json"})
        return connection.getresponse()

    def answers(self) -> bool:
        try:
            with self.ask("Plugin.Activate") as response:
                return response.status == 200
        except OSError:
            return False

    def diary(self) -> list[str]:
        diary = self.state / "diary"
        return diary.read_text().splitlines() if diary.exists() else []

    def log(self) -> str:
        return (self.path / self.log_name).read_text()

    def end(self) -> int:
        self.process.terminate()
        code = self.process.wait(10)
        self._log.close()
        return code

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()


def eventually(true: Callable[[], object], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def systemd(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(15)
        yield listener


def prepared(tmp_path: Path, *names: str) -> Path:
    """A state directory with files that tell the stand-in what to do."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    for name in names:
        (state / name).touch()
    return state
