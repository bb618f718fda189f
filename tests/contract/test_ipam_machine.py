"""The machine of tests/unit/ipam_machine.py over a real Consul, in a cluster of its own for each example.

That is some 500 requests. Nearly all that one costs is spent in the libraries that carry it, so here a plain socket
does, at a seventh of the time; tests/contract/test_consul.py has the libraries."""

import logging
import os
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedRWPair
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from store.consul import ConsulStore, parse_url
from store.interface import Store
from tests.consul_agent import ConsulAgent, ConsulServers
from tests.unit.ipam_machine import ADDRESSES, Addresses

SOAK = int(os.environ.get("SOAK_EXAMPLES", "0"))
EXAMPLES = max(80, SOAK // 10)
WAIT = 2.0  # seconds for an answer
QUICK = settings(deadline=None, suppress_health_check=list(HealthCheck), stateful_step_count=20, max_examples=EXAMPLES)


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    headers: Mapping[str, str]
    body: str


class PlainConnection:
    """One connection, for one thread, in place of py-consul's HTTPClient."""

    def __init__(self, url: str) -> None:
        _, self._host, self._port = parse_url(url)
        self._stream: BufferedRWPair | None = None

    def close(self) -> None:
        """The next question opens it again."""
        if self._stream is not None:
            self._stream.close()
        self._stream = None

    def get(self, _: object, path: str, **request: Any) -> Answer:
        return self._ask("GET", path, **request)

    def put(self, _: object, path: str, **request: Any) -> Answer:
        return self._ask("PUT", path, **request)

    def _ask(self, method: str, path: str, params: Sequence[tuple[str, str]], data: bytes = b"", **_: object) -> Answer:
        head = f"{method} {path}?{urlencode(params)} HTTP/1.1\r\nHost: consul\r\nContent-Length: {len(data)}\r\n\r\n"
        try:
            stream = self._stream = self._stream or self._opened()
            stream.write(head.encode() + data)
            stream.flush()
            return read_answer(stream)
        except (OSError, IndexError) as error:  # the latter where it ends in the middle
            with suppress(OSError):
                self.close()
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
    def __init__(self, url: str, root: str) -> None:
        super().__init__(url, root)
        super().close()
        self._closed.clear()
        self._http = PlainConnection(url)

    def close(self) -> None:
        self._http.close()


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.consul
@pytest.mark.timeout(max(600, SOAK))
def test_no_address_has_two_owners_and_none_is_lost_with_consul(open_agent: ConsulAgent) -> None:
    class InConsul(Addresses):
        def new_store(self) -> Store:
            return PlainStore(open_agent.url, f"machine-{uuid.uuid4().hex[:12]}")

    run_state_machine_as_test(InConsul, settings=QUICK)


@pytest.mark.consul
@pytest.mark.skipif(not SOAK, reason="each lost leader takes five seconds: `make soak` has it")
@pytest.mark.timeout(max(600, SOAK))
def test_the_same_with_three_servers_that_lose_their_leader(three_servers: ConsulServers) -> None:
    class OnThree(Addresses):
        """Each host asks one of the three."""

        def new_store(self) -> Store:
            return self.way(0)

        def way(self, number: int) -> PlainStore:
            if number == 0:
                self.root = f"machine-{uuid.uuid4().hex[:12]}"
            return PlainStore(three_servers.agents[number % 3].url, self.root)

        @rule(frozen=st.booleans(), wanted=st.sampled_from(ADDRESSES))
        def the_leader_is_lost(self, frozen: bool, wanted: str) -> None:
            """Killed, or cut off from all while it takes itself for the leader; hosts go on meanwhile."""
            self.cluster.ways = self.cluster.ways or {name: self.way(n) for n, name in enumerate(self.hosts, start=1)}
            with three_servers.without(three_servers.leader(), frozen=frozen):
                for name in self.hosts:
                    self.give(name, None)
                    self.give(name, wanted)
            for store in (self.cluster.store, *self.cluster.ways.values()):
                store.close()  # to connect anew

        def teardown(self) -> None:
            super().teardown()
            for store in self.cluster.ways.values():
                store.close()

    run_state_machine_as_test(OnThree, settings=settings(QUICK, max_examples=max(10, SOAK // 500)))
