"""What a real Consul adds: it may refuse, be away, hang, come back, and speak TLS."""

import gc
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from store.consul import BURST, GAP, ConsulStore
from store.interface import ABSENT, Check, Delete, Put, StoreForbidden, StoreUnavailable
from tests.consul_agent import ConsulAgent
from tests.contract.conftest import running
from tests.lab.commands import wait_until

pytestmark = pytest.mark.consul
TIMEOUT = 0.5  # seconds a store waits for a server that hangs
SLACK = 10  # seconds a busy machine may add

CALLS: dict[str, Callable[[ConsulStore], object]] = {
    "get": lambda store: store.get("a"),
    "read": lambda store: store.read(""),
    "read of nothing": lambda store: store.read("nothing/here/"),
    "wait": lambda store: store.wait("", 1, 0.1),
    "wait for nothing": lambda store: store.wait("nothing/here/", 1, 0.1),
    "put": lambda store: store.commit(Put("new", b"", ABSENT)),
    "delete": lambda store: store.commit(Delete("a", 1)),
    "check": lambda store: store.commit(Check("a", 1)),
    "check of nothing": lambda store: store.commit(Check("new", ABSENT)),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


# Tokens


@pytest.fixture
def written(acl_agent: ConsulAgent, root: str, token: str) -> None:
    with closing(ConsulStore(acl_agent.url, root, token=token)) as store:
        assert store.commit(Put("a", b"1", ABSENT))


@each_call
@pytest.mark.parametrize("wrong", [None, "11111111-2222-3333-4444-555555555555"], ids=["no token", "unknown token"])
@pytest.mark.usefixtures("written")
def test_forbidden_is_neither_empty_nor_lost(
    acl_agent: ConsulAgent, root: str, wrong: str | None, call: Callable[[ConsulStore], object]
) -> None:
    with closing(ConsulStore(acl_agent.url, root, token=wrong)) as store, pytest.raises(StoreForbidden) as caught:
        call(store)
    assert f'key_prefix "{root}/" {{ policy = "write" }}' in str(caught.value)
    assert ("CONSUL_HTTP_TOKEN" in str(caught.value)) is (wrong is None)


@each_call
@pytest.mark.usefixtures("written")
def test_the_token_of_another_cluster_is_forbidden(
    acl_agent: ConsulAgent, root: str, call: Callable[[ConsulStore], object]
) -> None:
    other = acl_agent.token('key_prefix "other/" { policy = "write" }')
    with closing(ConsulStore(acl_agent.url, root, token=other)) as store, pytest.raises(StoreForbidden):
        call(store)


@pytest.mark.usefixtures("written")
def test_a_token_that_may_only_read(acl_agent: ConsulAgent, root: str) -> None:
    reader = acl_agent.token(f'key_prefix "{root}/" {{ policy = "read" }}')
    with closing(ConsulStore(acl_agent.url, root, token=reader)) as store:
        entry = store.get("a")
        assert entry is not None
        assert store.commit(Check("a", entry.version))
        assert store.read("nothing/").entries == {}
        with pytest.raises(StoreForbidden):
            store.commit(Put("a", b"2", entry.version))
        with pytest.raises(StoreForbidden):
            store.commit(Put("b", b"2", ABSENT), Check("a", 1))


@pytest.mark.usefixtures("written")
def test_a_token_given_wins_over_the_environment(
    acl_agent: ConsulAgent, root: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "11111111-2222-3333-4444-555555555555")
    with closing(ConsulStore(acl_agent.url, root, token=token)) as store:
        assert store.get("a")
        assert store.commit(Put("b", b"", ABSENT))


@pytest.mark.usefixtures("written")
def test_tokens_and_certificates_come_from_consuls_variables(
    acl_agent: ConsulAgent, root: str, token: str, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(f"{token}\n")
    by_file = {"CONSUL_HTTP_TOKEN_FILE": str(token_file), "CONSUL_HTTP_TOKEN": "the file wins"}
    for environ in ({"CONSUL_HTTP_TOKEN": token}, by_file):
        for url, more in ((acl_agent.url, {}), (acl_agent.tls_url, acl_agent.tls_environ)):
            with closing(ConsulStore.from_url(url, root=root, environ=environ | more)) as store:
                assert store.read("").entries.keys() == {"a"}


@each_call
@pytest.mark.usefixtures("written")
def test_a_token_that_ended_is_followed_by_the_one_in_its_file(
    acl_agent: ConsulAgent, root: str, token: str, tmp_path: Path, call: Callable[[ConsulStore], object]
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("11111111-2222-3333-4444-555555555555")
    environ = {"CONSUL_HTTP_TOKEN_FILE": str(token_file)}
    with closing(ConsulStore.from_url(acl_agent.url, root=root, environ=environ)) as store:
        with pytest.raises(StoreForbidden):
            call(store)
        token_file.write_text("")  # as it is for a moment when somebody writes it
        with pytest.raises(StoreForbidden):
            call(store)
        token_file.write_text(token)
        call(store)


# TLS


def test_a_server_that_cannot_prove_itself_is_not_talked_to(acl_agent: ConsulAgent, root: str, token: str) -> None:
    refused = pytest.raises(StoreUnavailable, match=r"consuls://127.*certificate verify failed")
    with closing(ConsulStore(acl_agent.tls_url, root, token=token)) as store, refused:
        store.read("")


def test_a_client_that_cannot_prove_itself_is_not_listened_to(acl_agent: ConsulAgent, root: str, token: str) -> None:
    ca = acl_agent.tls_environ["CONSUL_CACERT"]
    refused = pytest.raises(StoreUnavailable, match=r"consuls://127.*cannot be reached")
    with closing(ConsulStore(acl_agent.tls_url, root, token=token, ca=ca)) as store, refused:
        store.read("")


def test_closing_ends_an_encrypted_wait(acl_agent: ConsulAgent, root: str, token: str) -> None:
    environ = {"CONSUL_HTTP_TOKEN": token} | acl_agent.tls_environ
    store = ConsulStore.from_url(acl_agent.tls_url, root=root, environ=environ)
    assert store.commit(Put("a", b"1", ABSENT))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.wait, "", store.read("").version, 60)
        time.sleep(0.3)
        store.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            waiting.result(timeout=30)


# Sockets


def sockets() -> int:
    gc.collect()
    links = (
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    )
    return sum(link.startswith("socket:") for link in links)


def test_closing_leaves_no_sockets(open_agent: ConsulAgent, root: str) -> None:
    before = sockets()
    store = ConsulStore(open_agent.url, root)
    store.commit(Put("a", b"1", ABSENT))
    version = store.read("").version
    with ThreadPoolExecutor(100) as pool:
        list(pool.map(store.get, ["a"] * 300))
        waits = [pool.submit(store.wait, f"prefix-{number}/", version, 60) for number in range(90)]
        wait_until("the waits to be under way", lambda: sockets() > before + 80, timeout=30)
        store.close()
        for wait in waits:
            assert isinstance(wait.exception(timeout=30), StoreUnavailable)
    wait_until("the sockets to be closed", lambda: sockets() == before, timeout=30)


def test_a_proxy_for_the_web_is_not_asked(open_agent: ConsulAgent, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:9")
    with closing(ConsulStore(open_agent.url, root)) as store:
        assert store.read("").entries == {}


# Outages


@pytest.fixture(scope="module")
def shaky_agent() -> Iterator[ConsulAgent]:
    yield from running(acls=False)


@each_call
def test_a_server_that_hangs_is_given_up_in_time(
    shaky_agent: ConsulAgent, root: str, call: Callable[[ConsulStore], object]
) -> None:
    with (
        closing(ConsulStore(shaky_agent.url, root, timeout=TIMEOUT)) as store,
        closing(ConsulStore(shaky_agent.url, root)) as patient,
    ):
        call(patient)
        shaky_agent.freeze()
        try:
            started = time.monotonic()
            with pytest.raises(StoreUnavailable, match=r"consul://127\.0\.0\.1:\d+ did not answer within 0\.[56]"):
                call(store)
            assert TIMEOUT * 0.9 < time.monotonic() - started < TIMEOUT + SLACK
        finally:
            shaky_agent.thaw()
        call(patient)


def test_a_server_that_dies_and_comes_back(shaky_agent: ConsulAgent, root: str) -> None:
    with closing(ConsulStore(shaky_agent.url, root)) as store, ThreadPoolExecutor(1) as pool:
        assert store.commit(Put("a", b"1", ABSENT))
        seen = store.read("")
        waiting = pool.submit(store.wait, "", seen.version, 60)
        time.sleep(0.3)
        shaky_agent.stop()
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            waiting.result(timeout=SLACK)
        for call in CALLS.values():
            started = time.monotonic()
            with pytest.raises(
                StoreUnavailable, match=r"consul://127\.0\.0\.1:\d+ cannot be reached: Connection refused"
            ):
                call(store)
            assert time.monotonic() - started < SLACK
        shaky_agent.start()
        assert store.read("") == seen
        entry = seen.entries["a"]
        waiting = pool.submit(store.wait, "", seen.version, 10)
        assert store.commit(Put("a", b"2", entry.version))
        assert waiting.result(timeout=30).entries["a"].value == b"2"


def test_a_watcher_of_a_dead_server_does_not_spin(shaky_agent: ConsulAgent, root: str) -> None:
    with closing(ConsulStore(shaky_agent.url, root)) as store:
        shaky_agent.stop()
        try:
            tries, end = 0, time.monotonic() + 1
            while time.monotonic() < end:
                with pytest.raises(StoreUnavailable):
                    store.wait("", 1, 60)
                tries += 1
            assert tries <= BURST + 1 / GAP + 1
        finally:
            shaky_agent.start()
        store.wait("", 1, 0.1)


def test_a_host_with_another_address_goes_on_over_new_connections(open_agent: ConsulAgent, root: str) -> None:
    """What was asked over old ones is asked again; it is not taken for an outage."""
    with closing(ConsulStore(open_agent.url, root)) as store, ThreadPoolExecutor(1) as pool:
        assert store.commit(Put("a", b"1", ABSENT))
        watching = pool.submit(store.wait, "a", store.read("a").version, 20)
        time.sleep(0.2)
        store.reconnect()
        assert store.commit(Put("a", b"2", store.read("a").version))
        assert watching.result(timeout=30).entries["a"].value == b"2"
