"""HTTP connections that can be ended from outside, so that a long poll does not outlive its store."""

import socket
import struct
import threading
import weakref
from contextlib import suppress
from typing import Any, NamedTuple

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

MOST_IDLE = 64  # connections kept for reuse; further ones are made and dropped as needed
# Who waits for an answer sends nothing, and would not find out that packets are dropped without a word. So the kernel
# asks the other side's now and then, and ends a connection on which nothing is acknowledged any more.
PROBE_AFTER, PROBE_EVERY, GIVEN_UP = 3, 1, 7  # seconds
NOTICING = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_EVERY),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GIVEN_UP * 1000),
)
TCP_BYTES = struct.Struct("=120xQQ")  # the start of linux/tcp.h's tcp_info: bytes acknowledged, bytes received


class Traffic(NamedTuple):
    """Bytes on the wire, with what HTTP and TLS add, without the headers of packets."""

    sent: int
    received: int


NOTHING = Traffic(0, 0)


class Connections(HTTPAdapter):
    """For `Session.mount`: connects within `connect_timeout` seconds, however long the answer may take."""

    def __init__(self, connect_timeout: float) -> None:
        self._connect_timeout = connect_timeout
        # With what has passed on each, as far as it was counted.
        self._open: weakref.WeakKeyDictionary[HTTPConnection, Traffic] = weakref.WeakKeyDictionary()
        self._exchanged = NOTHING
        self._lock = threading.Lock()
        self._ended = False
        self.renewals = 0
        super().__init__(pool_maxsize=MOST_IDLE)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        options = [*HTTPConnection.default_socket_options, *NOTICING]
        super().init_poolmanager(*args, socket_options=options, **kwargs)
        connections = self

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                connections._opened(self)

            def close(self) -> None:
                connections._closing(self)
                super().close()

        class Encrypted(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                connections._opened(self)

            def close(self) -> None:
                connections._closing(self)
                super().close()

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class EncryptedPool(HTTPSConnectionPool):
            ConnectionCls = Encrypted

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = (self._connect_timeout, kwargs["timeout"])
        return super().send(request, *args, **kwargs)

    def end(self) -> None:
        """Make every request under way fail at once, and every later one."""
        with self._lock:
            self._ended = True
            for connection in self._open:
                _shut(connection)

    def renew(self) -> None:
        """Make every request under way fail at once; later ones connect anew."""
        with self._lock:
            self.renewals += 1
            for connection in self._open:
                _shut(connection)

    def exchanged(self) -> Traffic:
        """On all connections so far."""
        with self._lock:
            for connection in list(self._open):
                self._count(connection)
            return self._exchanged

    def _opened(self, connection: HTTPConnection) -> None:
        with self._lock:
            self._open[connection] = NOTHING
            if self._ended:
                _shut(connection)

    def _closing(self, connection: HTTPConnection) -> None:
        with self._lock:
            self._count(connection)

    def _count(self, connection: HTTPConnection) -> None:
        passed = _passed(connection)
        if passed is not None and connection in self._open:
            before, all_before = self._open[connection], self._exchanged
            self._open[connection] = passed
            self._exchanged = Traffic(*(a + p - b for a, p, b in zip(all_before, passed, before, strict=True)))


def _shut(connection: HTTPConnection) -> None:
    """Wake who reads from the socket. Not `close`: that would leave the reader waiting on a descriptor that is gone."""
    if connection.sock is not None:
        with suppress(OSError):  # the other side has ended it already
            # the plain method, since the one of TLS sockets takes the encryption away from under the reader
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


def _passed(connection: HTTPConnection) -> Traffic | None:
    """As the kernel counts it, None of a connection that is closed."""
    if connection.sock is None:
        return None
    with suppress(OSError):
        return Traffic(
            *TCP_BYTES.unpack(connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_BYTES.size))
        )
    return None
