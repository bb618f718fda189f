"""What /healthz, /readyz and /metrics say, and that they say it whatever the rest of the API waits for."""

import http.client
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster import upkeep as upkeep_module
from cluster.garbage import Ours
from cluster.upkeep import Duty, Upkeep
from ipam.pool_journal import ENDPOINT, Lease
from ipam.tenancy import LeaseLapsed
from operations.metrics import Metrics
from operations.observer import Observer, Sources
from operations.tally import Tally
from operations.web import MOST_LOOKS, WebServer, build_app
from store.connections import Traffic
from tests.consul_agent import free_ports
from tests.lab.commands import wait_until

POOL, BLOCK = ip_network("10.240.0.0/18"), ip_network("10.240.2.0/26")


class Loops:
    """Sources of a host on which all is well, each to be broken."""

    def __init__(self) -> None:
        self.reconciler = SimpleNamespace(
            idle=lambda: 9.0,
            passes=3,
            pass_seconds=0.2,
            repairs=7,
            underlay_fault="",
            underlay_seen=None,
            faults=list,
        )
        self.watch = SimpleNamespace(idle=lambda: 59.0, age=lambda: 2.0, view=lambda: None)
        self.tenancy = SimpleNamespace(
            silence=lambda: 1.0, refuse_if_fenced=lambda: None, retelling=False, period=20.0, is_new=False
        )
        self.blocks: Mapping[Any, Any] = {("", POOL): (BLOCK,)}
        self.away: tuple[float, str] | None = None
        self.unwritten = ""
        self.upkeep = Upkeep([])
        self.engine: Any = SimpleNamespace(networks=lambda _: ())

    def ours(self) -> Ours:
        leases = {
            ip_address("10.240.2.1"): Lease(str(POOL), ENDPOINT),
            ip_address("10.240.2.2"): Lease(str(POOL), ENDPOINT, released=1.0),
        }
        return Ours([], [], {}, {("", POOL): leases}, self.blocks)

    @property
    def sources(self) -> Sources:
        found: Any = SimpleNamespace(
            host="h1",
            store_address="consul://127.0.0.1:8500",
            ttl=60.0,
            unwritten=lambda: self.unwritten,
            store=SimpleNamespace(read=lambda prefix: SimpleNamespace(entries={})),
            away=lambda: self.away,
            ours=self.ours,
            watch=self.watch,
            tenancy=self.tenancy,
            reclaimer=SimpleNamespace(silences=lambda: {"h2": 3.0, "h3": 61.0}),
            reconciler=self.reconciler,
            listeners=(SimpleNamespace(runs=True, failures=2),),
            exchanged=lambda: Traffic(3, 4),
            conflicts=SimpleNamespace(found=()),
            collector=SimpleNamespace(freed=4),
            engine=self.engine,
            upkeeps=(self.upkeep,),
            outcomes=dict,
        )
        return cast(Sources, found)

    def asked(self, path: str) -> tuple[int, str]:
        """Of the application, as a client of it hears."""
        answer = build_app(Observer(self.sources), Metrics()).test_client().get(path)
        return answer.status_code, answer.text


@pytest.fixture
def loops() -> Loops:
    return Loops()


def test_all_is_well(loops: Loops) -> None:
    assert loops.asked("/healthz") == loops.asked("/readyz") == (200, "ok\n")


def test_a_reconciler_that_stands_still_is_neither_alive_nor_ready(loops: Loops) -> None:
    loops.reconciler.idle = lambda: 61.0
    said = (503, "the reconciler has not looked at the kernel for 61 s\n")
    assert loops.asked("/healthz") == loops.asked("/readyz") == said


def test_a_watch_that_stands_still_is_not_alive_and_one_whose_store_is_away_is(loops: Loops) -> None:
    loops.watch.age = lambda: 9999.0
    assert loops.asked("/healthz") == (200, "ok\n")
    loops.watch.idle = lambda: 301.0
    assert loops.asked("/healthz") == (503, "the watch of the store stands still for 301 s\n")


def test_a_duty_that_does_not_end_is_not_alive(loops: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    began, end = threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        end.wait()

    loops.upkeep = Upkeep([Duty("beat", hang, 1000)])
    loops.upkeep.start()
    try:
        assert began.wait(10)
        assert loops.asked("/healthz") == (200, "ok\n")
        monkeypatch.setattr(upkeep_module, "LONGEST", -1.0)
        status, said = loops.asked("/healthz")
        assert status == 503
        assert said.startswith("the duty `beat` has been under way for ")
        end.set()
        wait_until("the duty to end", lambda: loops.asked("/healthz") == (200, "ok\n"), timeout=10)
    finally:
        end.set()
        loops.upkeep.stop()


def test_a_host_that_has_not_looked_at_its_kernel_is_alive_and_not_ready(loops: Loops) -> None:
    loops.reconciler.passes = 0
    assert loops.asked("/healthz") == (200, "ok\n")
    assert loops.asked("/readyz") == (503, "the kernel has not been looked at yet\n")


def test_a_host_without_its_interface_is_not_ready(loops: Loops) -> None:
    loops.reconciler.underlay_fault = "there is no interface missing0"
    said = "where other hosts are is not known: there is no interface missing0\n"
    assert loops.asked("/readyz") == (503, said)


def test_a_host_whose_lease_has_lapsed_is_not_ready(loops: Loops) -> None:
    def fenced() -> None:
        raise LeaseLapsed("the lease has lapsed")

    loops.tenancy.refuse_if_fenced = fenced
    assert loops.asked("/readyz") == (503, "the lease has lapsed\n")


def test_a_host_whose_disk_is_full_is_not_ready(loops: Loops) -> None:
    loops.unwritten = "nothing can be written down"
    assert loops.asked("/readyz") == (503, "nothing can be written down\n")
    assert "nothing can be written down" in Observer(loops.sources).problems()


def test_without_the_store_a_host_is_ready_as_long_as_it_holds_a_block(loops: Loops) -> None:
    loops.away = (9.0, "Consul cannot be reached")
    assert loops.asked("/readyz") == (200, "ok\n")
    loops.blocks = {("", POOL): ()}
    said = "the store has been away for 9 s, and this host holds no block: Consul cannot be reached\n"
    assert loops.asked("/readyz") == (503, said)


def test_the_numbers_are_those_of_this_host(loops: Loops) -> None:
    loops.away = (9.0, "Consul cannot be reached")
    metrics, see = Metrics(), loops.sources
    metrics.watch(Tally(see, Observer(see)).counts)
    values = dict(line.rsplit(" ", 1) for line in metrics.text().decode().splitlines() if line[0] != "#")
    label = '{pool="10.240.0.0/18",space=""}'
    assert {name: float(values[f"flannelpy_{name}"]) for name in EXPECTED} == EXPECTED
    assert (values[f"flannelpy_addresses_in_use{label}"], values[f"flannelpy_blocks{label}"]) == ("1.0", "1.0")


EXPECTED = {
    "lease_silence_seconds": 1,
    "lease_ttl_seconds": 60,
    "store_away_seconds": 9,
    "watch_age_seconds": 2,
    "problems": 1,
    "silent_hosts": 1,
    "garbage_freed_total": 4,
    "reconcile_passes_total": 3,
    "repairs_total": 7,
    "listener_failures_total": 2,
}


@contextmanager
def served(loops: Loops) -> Iterator[int]:
    [port] = free_ports(1)
    server = WebServer(build_app(Observer(loops.sources), Metrics()), ("127.0.0.1", port))
    server.start()
    try:
        yield port
    finally:
        server.stop()


def status(port: int, path: str) -> int:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        client.request("GET", path)
        return client.getresponse().status
    finally:
        client.close()


def test_health_and_metrics_answer_while_all_other_questions_hang(loops: Loops) -> None:
    """As when dockerd does not answer: each of these waits for it."""
    hanging, end = threading.Semaphore(0), threading.Event()

    def networks(_: int) -> tuple[()]:
        hanging.release()
        end.wait()
        return ()

    loops.engine = SimpleNamespace(networks=networks)
    with served(loops) as port:
        paths = ["/api/overview", *["/api/hosts"] * MOST_LOOKS]
        asking = [threading.Thread(target=status, args=(port, path)) for path in paths]
        for thread in asking:
            thread.start()
        for _ in paths:
            assert hanging.acquire(timeout=10)
        assert status(port, "/api/networks") == HTTPStatus.SERVICE_UNAVAILABLE
        for path in ("/healthz", "/readyz", "/metrics", "/api/status", "/api/overview"):
            assert status(port, path) == HTTPStatus.OK
        end.set()
        for thread in asking:
            thread.join()
        assert status(port, "/api/networks") == HTTPStatus.OK
