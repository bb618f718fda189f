"""HTTP to a socket file: it reaches a daemon whatever network namespace that lives in."""

import http.client
import socket
from collections.abc import Mapping
from pathlib import Path


class UnixConnection(http.client.HTTPConnection):
    """What http.client lacks."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def request(
    path: Path,
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 5,
) -> tuple[int, bytes]:
    """One request, one connection: status and body. What goes wrong below HTTP is an OSError or an HTTPException."""
    connection = UnixConnection(path, timeout)
    try:
        connection.request(method, url, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def accepts(path: Path) -> bool:
    """Whether somebody listens on the socket file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
