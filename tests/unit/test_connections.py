"""What passes on the connections to the store, counted on both sides."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from store.connections import NOTHING, Traffic
from store.consul import ConsulStore
from store.interface import ABSENT, Put, StoreUnavailable

ANSWER = b"HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nContent-Length: %d\r\n\r\n%s"
ENDS = 2  # the kernel counts the first and the last packet of a connection as a byte each


@dataclass
class Server:
    """Answers each request with the body; none of them is so long that it comes in pieces."""

    listening: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    body: bytes = b"[]"
    connections: int = 0
    received: int = 0
    sent: int = 0

    def serve(self) -> None:
        while True:
            try:
                stream = self.listening.accept()[0]
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.answer, args=[stream]).start()

    def answer(self, stream: socket.socket) -> None:
        with stream:
            while request := stream.recv(1 << 16):
                answer = ANSWER % (len(self.body), self.body)
                self.received, self.sent = self.received + len(request), self.sent + len(answer)
                stream.sendall(answer)

    def agrees(self, counted: Traffic) -> bool:
        more = ENDS * self.connections
        return 0 <= counted.sent - self.received <= more and 0 <= counted.received - self.sent <= more


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve)
    thread.start()
    yield made
    made.listening.shutdown(socket.SHUT_RDWR)
    made.listening.close()
    thread.join()


def test_bytes_are_counted_on_all_connections_also_on_those_that_are_gone(server: Server) -> None:
    with closing(ConsulStore(f"consul://127.0.0.1:{server.listening.getsockname()[1]}", "root")) as store:
        assert store.exchanged() == NOTHING
        before = NOTHING
        for size in (2, 50_000, 2):
            server.body = b"[%s]" % (b" " * size)
            for _ in range(3):
                store.get("a")
                assert server.agrees(store.exchanged())
            assert store.exchanged().received > before.received + 3 * size
            before = store.exchanged()
            store.reconnect()
            assert store.exchanged() >= before
        assert server.connections == 3
    assert server.agrees(store.exchanged())


def test_a_store_that_is_away_costs_nothing(server: Server) -> None:
    with closing(ConsulStore("consul://127.0.0.1:1", "root")) as store:
        with pytest.raises(StoreUnavailable):
            store.commit(Put("a", b"", ABSENT))
        assert store.exchanged() == NOTHING
