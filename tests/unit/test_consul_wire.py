"""What Consul, or what poses as Consul, may say: answers of a stub that a real server cannot be brought to give."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from store.consul import BURST, GAP, ConsulStore, Pace, ahead_of, operation, parse_url
from store.interface import ABSENT, Change, Check, Delete, Entry, Put, StoreForbidden, StoreUnavailable

INDEX = {"X-Consul-Index": "7"}
ENTRY = '[{"Key": "root/a", "Value": "MQ==", "ModifyIndex": 5, "Flags": 0}]'


@dataclass
class Stub:
    """Answers every request alike, and remembers them."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: dict(INDEX))
    body: str | None = ENTRY  # None: hang up without an answer
    url: str = ""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def params(self) -> dict[str, list[str]]:
        """Of the last request."""
        return parse_qs(urlsplit(self.requests[-1][1]).query)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: Stub

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.stub.requests.append((self.command, self.path, dict(self.headers)))
        if self.stub.body is None:
            self.close_connection = True
            return
        body = self.stub.body.encode()
        self.send_response(self.stub.status)
        for name, value in (self.stub.headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = answer  # noqa: N815 - the base class's names

    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""


class IPv6Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6


@pytest.fixture
def serve() -> Iterator[Callable[..., Stub]]:
    servers: list[ThreadingHTTPServer] = []

    def start(kind: type[ThreadingHTTPServer] = ThreadingHTTPServer, host: str = "127.0.0.1") -> Stub:
        stub = Stub()
        server = kind((host, 0), type("Scripted", (Handler,), {"stub": stub}))
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=[0.01]).start()
        stub.url = f"consul://{f'[{host}]' if ':' in host else host}:{server.server_address[1]}"
        return stub

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def stub(serve: Callable[..., Stub]) -> Stub:
    return serve()


@pytest.fixture
def store(stub: Stub) -> Iterator[ConsulStore]:
    with closing(ConsulStore(stub.url, "root", token="secret", timeout=2)) as store:
        yield store


# Settings


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("consul://10.0.0.1:8600", ("http", "10.0.0.1", 8600)),
        ("consul://consul.example", ("http", "consul.example", 8500)),
        ("consuls://consul.example", ("https", "consul.example", 8501)),
        ("consul://consul.example/", ("http", "consul.example", 8500)),
        ("consul://[fd00::1]", ("http", "[fd00::1]", 8500)),
        ("consuls://[fd00::1]:1234", ("https", "[fd00::1]", 1234)),
    ],
)
def test_an_address_of_consul(url: str, expected: tuple[str, str, int]) -> None:
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite",
        "http://10.0.0.1:8500",
        "consul://",
        "consul://:8500",
        "consul://host:0",
        "consul://host:65536",
        "consul://host:port",
        "consul://fd00::1",
        "consul://[fd00::1",
        "consul://token@host",
        "consul://host/path",
        "consul://host?dc=x",
        "consul://host#x",
    ],
)
def test_a_wrong_address_of_consul(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected consul://HOST"):
        parse_url(url)


@pytest.mark.parametrize("root", ["", "/", "a/", "/a", "a//b", ".."])
def test_a_wrong_cluster_name(root: str) -> None:
    with pytest.raises(ValueError, match="expected printable parts"):
        ConsulStore("consul://127.0.0.1", root)


# What is asked


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Put("a", b"1", 0), {"Verb": "cas", "Key": "root/a", "Value": b"1", "Index": 0}),
        (Put("a", b"1", 5), {"Verb": "cas", "Key": "root/a", "Value": b"1", "Index": 5}),
        (Delete("a", 5), {"Verb": "delete-cas", "Key": "root/a", "Index": 5}),
        (Check("a", 5), {"Verb": "check-index", "Key": "root/a", "Index": 5}),
        (Check("a", ABSENT), {"Verb": "check-not-exists", "Key": "root/a"}),
    ],
)
def test_a_change_in_consuls_words(change: Change, expected: dict[str, Any]) -> None:
    assert operation("root", change) == {"KV": expected}


def test_every_request_carries_the_token(stub: Stub, store: ConsulStore) -> None:
    store.get("a")
    store.read("")
    store.wait("", 3, 0.1)
    stub.body = '{"Results": [], "Errors": null}'
    store.commit(Put("a", b"", 0))
    store.commit(Check("a", 0))
    assert [headers["X-Consul-Token"] for _, _, headers in stub.requests] == ["secret"] * 5


def test_a_commit_that_only_looks_insists_on_the_leader(stub: Stub, store: ConsulStore) -> None:
    stub.body = '{"Results": [], "Errors": null}'
    store.commit(Check("a", 0))
    assert stub.params() == {"consistent": ["1"]}
    store.commit(Check("a", 0), Delete("b", 3))
    assert stub.params() == {}


def test_what_is_read_is_what_was_acknowledged(stub: Stub, store: ConsulStore) -> None:
    """By default a leader answers that was just elected and has not applied all of the log: seen after a kill -9."""
    store.get("a")
    assert stub.params() == {"consistent": ["1"]}
    store.read("net/")
    assert stub.params() == {"recurse": ["1"], "consistent": ["1"]}


def test_a_wait_leaves_room_for_consuls_jitter(stub: Stub, store: ConsulStore) -> None:
    store.wait("net/", 7, 17)
    assert stub.params()["index"] == ["7"]
    assert 15_900 < int(stub.params()["wait"][0].removesuffix("ms")) <= 16_000


def test_an_ipv6_address(serve: Callable[..., Stub]) -> None:
    try:
        stub = serve(IPv6Server, "::1")
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with closing(ConsulStore(stub.url, "root")) as store:
        assert store.get("a") == Entry(b"1", 5)


# What is answered


def test_a_sensible_answer(store: ConsulStore) -> None:
    assert store.get("a") == Entry(b"1", 5)
    assert store.read("").entries == {"a": Entry(b"1", 5)}
    assert store.read("").version == 7


@pytest.mark.parametrize(
    ("status", "headers", "body", "sentence"),
    [
        (400, INDEX, "Invalid index", "answered 400: Invalid index"),
        (413, INDEX, "Request body too large", "answered 413: Request body too large"),
        (429, INDEX, "rate limit exceeded", "answered 429: rate limit exceeded"),
        (500, INDEX, "No cluster leader", "answered 500: No cluster leader"),
        (503, INDEX, "rate limit exceeded", "answered 503: rate limit exceeded"),
        (502, {}, "<html>" + "x" * 10_000, r"answered 502: <html>x{194}\.\.\.$"),
        (204, INDEX, "", "answered 204"),
        (301, INDEX | {"Location": "http://127.0.0.1:9/"}, "", "cannot be reached: Exceeded 0 redirects"),
        (200, INDEX, "<html>welcome</html>", "does not answer as Consul does"),
        (200, INDEX, ENTRY[:-5], "does not answer as Consul does"),
        (200, INDEX, '{"Key": "root/a"}', "does not answer as Consul does"),
        (200, INDEX, "[1]", "does not answer as Consul does"),
        (200, INDEX, ENTRY.replace("MQ==", "M"), "does not answer as Consul does"),
        (200, INDEX, ENTRY.replace("5", '"5"'), "does not answer as Consul does"),
        (200, {}, ENTRY, "no X-Consul-Index"),
        (200, {"X-Consul-Index": "seven"}, ENTRY, "no X-Consul-Index"),
        (404, {}, "404 page not found", "no X-Consul-Index"),
        (200, INDEX, None, "cannot be reached: Remote end closed connection"),
    ],
)
def test_an_answer_that_makes_no_sense_is_no_answer(
    stub: Stub, store: ConsulStore, status: int, headers: dict[str, str], body: str | None, sentence: str
) -> None:
    stub.status, stub.headers, stub.body = status, headers, body
    for call in (lambda: store.get("a"), lambda: store.read(""), lambda: store.wait("", 3, 0.1)):
        with pytest.raises(StoreUnavailable, match=sentence) as caught:
            call()
        assert stub.url in str(caught.value)
        assert not isinstance(caught.value, StoreForbidden)


@pytest.mark.parametrize("status", [401, 403])
def test_an_answer_that_refuses(stub: Stub, store: ConsulStore, status: int) -> None:
    stub.status, stub.body = status, "ACL not found"
    for call in (lambda: store.get("a"), lambda: store.read(""), lambda: store.commit(Put("a", b"", 0))):
        with pytest.raises(StoreForbidden, match=r'ACL not found.*key_prefix "root/" \{ policy = "write" \}'):
            call()


@pytest.mark.parametrize("body", [ENTRY, "[]"])
def test_a_list_with_keys_left_out_is_refused(stub: Stub, store: ConsulStore, body: str) -> None:
    """Consul says so from 1.11 on; before, the 403 on a single key tells."""
    stub.headers, stub.body = INDEX | {"X-Consul-Results-Filtered-By-ACLs": "true"}, body
    with pytest.raises(StoreForbidden, match="left out keys"):
        store.read("")
    with pytest.raises(StoreForbidden, match="left out keys"):
        store.wait("", 3, 0.1)


@pytest.mark.parametrize(("index", "version"), [("0", 1), ("-3", 1), ("1", 1), ("7", 7)])
def test_an_index_is_at_least_one(stub: Stub, store: ConsulStore, index: str, version: int) -> None:
    stub.headers = {"X-Consul-Index": index}
    assert store.read("").version == version


def test_an_index_that_went_backwards_starts_the_watch_again(stub: Stub, store: ConsulStore) -> None:
    """As after a restore from backup: the next wait must return at once, from whatever index there is."""
    assert store.wait("", 8, 0.1).version == 0
    assert store.wait("", 0, 60).version == 7
    assert "index" not in stub.params()


def test_a_commit_that_worked(stub: Stub, store: ConsulStore) -> None:
    stub.body = '{"Results": [{"KV": {"Key": "root/a", "Value": null, "ModifyIndex": 9}}], "Errors": null, "Index": 0}'
    assert store.commit(Put("a", b"", 0))


LOST = [
    'failed to set key "root/a", index is stale',
    'failed to delete key "root/a", index is stale',
    'failed index check for key "root/a", current modify index 10 != 5',
    'failed to check index, key "root/a" doesn\'t exist',
    'key "root/a" exists',
    'failed to set key "root/Permission denied", index is stale',
    'key "root/a\\" b" exists',
]
DENIED = [
    "Permission denied",
    "Permission denied: token with AccessorID '1' lacks permission 'key:write' on \"root/a\"",
]
OTHER = [
    'failed to lock key "root/a" due to lock delay',
    "failed kvs lookup: out of memory",
    'failed session check for key "root/a", current session "" != "1"',
    "",
]


@pytest.mark.parametrize("errors", [*([one] for one in LOST), LOST])
def test_a_transaction_undone_for_a_race(stub: Stub, store: ConsulStore, errors: list[str]) -> None:
    stub.status, stub.body = 409, undone(errors)
    assert store.commit(Put("a", b"", 0)) is False


@pytest.mark.parametrize("errors", [*([one] for one in DENIED), [LOST[0], DENIED[0]], [OTHER[0], DENIED[1]]])
def test_a_transaction_undone_for_want_of_permission(stub: Stub, store: ConsulStore, errors: list[str]) -> None:
    stub.status, stub.body = 409, undone(errors)
    with pytest.raises(StoreForbidden, match="Permission denied"):
        store.commit(Put("a", b"", 0))


@pytest.mark.parametrize("errors", [*([one] for one in OTHER), [LOST[0], OTHER[0]], [], None])
def test_a_transaction_undone_for_anything_else(stub: Stub, store: ConsulStore, errors: list[str] | None) -> None:
    stub.status, stub.body = 409, undone(errors)
    with pytest.raises(StoreUnavailable, match="undid a transaction") as caught:
        store.commit(Put("a", b"", 0))
    assert not isinstance(caught.value, StoreForbidden)


@pytest.mark.parametrize(("status", "body"), [(200, "true"), (200, "{}"), (409, "lost"), (404, ""), (200, None)])
def test_a_commit_whose_answer_is_lost_is_not_known_to_have_happened(
    stub: Stub, store: ConsulStore, status: int, body: str | None
) -> None:
    stub.status, stub.body = status, body
    with pytest.raises(StoreUnavailable):
        store.commit(Put("a", b"", 0))
    assert len(stub.requests) == 1, "nothing may send it again"


def undone(errors: list[str] | None) -> str:
    listed = None if errors is None else [{"OpIndex": number, "What": what} for number, what in enumerate(errors)]
    return json.dumps({"Results": None, "Errors": listed, "Index": 0, "KnownLeader": True})


# Time


def test_a_host_that_swallows_packets_does_not_hold_a_wait(store: ConsulStore) -> None:
    """The time-out for connecting is the ordinary one, however long the wait."""
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for client in (first, second):  # these fill its queue; further ones get no answer
            client.setblocking(False)
            client.connect_ex(deaf.getsockname())
        with closing(ConsulStore(f"consul://127.0.0.1:{deaf.getsockname()[1]}", "root", timeout=0.3)) as store:
            started = time.monotonic()
            with pytest.raises(StoreUnavailable, match="did not answer"):
                store.wait("", 5, 60)
            assert time.monotonic() - started < 2


def test_a_pace_allows_a_burst_and_then_a_rate() -> None:
    pace = Pace()
    assert [pace.delay(100.0) for _ in range(BURST + 1)] == [0.0] * (BURST + 1)
    assert [round(pace.delay(100.0) / GAP) for _ in range(3)] == [1, 2, 3]
    assert pace.delay(200.0) == 0.0


def test_how_far_clocks_are_apart() -> None:
    date = "Mon, 01 Jan 2024 00:00:10 GMT"
    assert ahead_of(date, 1704067205.0, None) == -5.0
    assert ahead_of(None, 0.0, 3.0) == 3.0
    assert ahead_of("yesterday", 0.0, 3.0) == 3.0
