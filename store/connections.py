"""HTTP connections that can be ended from outside, so that a long poll does not outlive its store."""

import socket
import threading
import weakref
from contextlib import suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

MOST_IDLE = 64  # connections kept for reuse; further ones are made and dropped as needed


class Connections(HTTPAdapter):
    """For `Session.mount`: connects within `connect_timeout` seconds, however long the answer may take."""

    def __init__(self, connect_timeout: float) -> None:
        self._connect_timeout = connect_timeout
        self._open: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._ended = False
        self.renewals = 0
        super().__init__(pool_maxsize=MOST_IDLE)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        connections = self

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                connections._opened(self)

        class Encrypted(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                connections._opened(self)

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

    def _opened(self, connection: HTTPConnection) -> None:
        with self._lock:
            self._open.add(connection)
            if self._ended:
                _shut(connection)


def _shut(connection: HTTPConnection) -> None:
    """Wake who reads from the socket. Not `close`: that would leave the reader waiting on a descriptor that is gone."""
    if connection.sock is not None:
        with suppress(OSError):  # the other side has ended it already
            # the plain method, since the one of TLS sockets takes the encryption away from under the reader
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
