"""Consul over a plain socket, for tests of very many requests.

Nearly all that a request costs is spent in the libraries that carry it. This does without them, at a seventh of the
time; tests/contract/test_consul.py has the libraries."""

import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedRWPair
from typing import Any
from urllib.parse import urlencode

from store.consul import ConsulStore, parse_url
from store.interface import Snapshot

WAIT = 2.0  # seconds for an answer


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    headers: Mapping[str, str]
    body: str


class PlainConnection:
    """One connection, for one request at a time, in place of py-consul's HTTPClient."""

    def __init__(self, url: str) -> None:
        _, self._host, self._port = parse_url(url)
        self._stream: BufferedRWPair | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """The next question opens it again."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None

    def get(self, _: object, path: str, **request: Any) -> Answer:
        return self._ask("GET", path, **request)

    def put(self, _: object, path: str, **request: Any) -> Answer:
        return self._ask("PUT", path, **request)

    def _ask(self, method: str, path: str, params: Sequence[tuple[str, str]], data: bytes = b"", **_: object) -> Answer:
        head = f"{method} {path}?{urlencode(params)} HTTP/1.1\r\nHost: consul\r\nContent-Length: {len(data)}\r\n\r\n"
        with self._lock:
            try:
                stream = self._stream = self._stream or self._opened()
                stream.write(head.encode() + data)
                stream.flush()
                return read_answer(stream)
            except (OSError, IndexError, ValueError) as error:  # the latter two where it ends in the middle
                with suppress(OSError):
                    self._close()
                self._stream = None
                raise OSError("no answer") from error

    def _opened(self) -> BufferedRWPair:
        with socket.create_connection((self._host, self._port), WAIT) as opened:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return opened.makefile("rwb")  # which keeps it open


def read_answer(stream: BufferedRWPair) -> Answer:
    status = int(stream.readline().split(b" ")[1])
    headers = dict(line.decode().rstrip().split(": ", 1) for line in iter(stream.readline, b"\r\n"))
    if "Content-Length" in headers:
        return Answer(status, headers, stream.read(int(headers["Content-Length"])).decode())
    chunks = []
    while size := int(stream.readline(), 16):
        chunks.append(stream.read(size + 2)[:-2])
    stream.readline()
    return Answer(status, headers, b"".join(chunks).decode())


class PlainStore(ConsulStore):
    """Where everything may be read: an empty answer hides nothing, and is not asked for again."""

    def __init__(self, url: str, root: str) -> None:
        super().__init__(url, root)
        super().close()
        self._closed.clear()
        self._http = PlainConnection(url)

    def _list(self, prefix: str, params: list[tuple[str, str]]) -> Snapshot:
        response = self._get(prefix, [("recurse", "1"), *params])
        return Snapshot(self._entries(response), self._index(response))

    def close(self) -> None:
        self._http.close()
