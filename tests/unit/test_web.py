"""The web server of the agent starts and stops without a trace, and tells where it cannot."""

import http.client
import threading
from types import SimpleNamespace
from typing import cast

from flask import Flask

from ipam.tenancy import Tenancy
from operations.observer import Observer, Sources
from operations.web import WebServer
from store.memory import MemoryStore
from tests.consul_agent import free_ports
from tests.lab.commands import wait_until


def test_it_stops_with_a_connection_open_and_leaves_no_thread_and_no_port_behind() -> None:
    app = Flask(__name__)
    app.get("/")(lambda: "here")
    [port] = free_ports(1)
    for _ in range(20):  # the same port each time; a thread that dies with an exception fails the test
        server = WebServer(app, ("127.0.0.1", port))
        server.start()
        assert not server.fault
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        client.request("GET", "/")
        assert client.getresponse().read() == b"here"
        server.stop()
        client.close()
        wait_until("the thread to end", lambda: "web" not in [t.name for t in threading.enumerate()], timeout=30)


def test_an_address_that_is_taken_is_a_problem_in_the_status() -> None:
    app, [port] = Flask(__name__), free_ports(1)
    first, second = (WebServer(app, ("127.0.0.1", port)) for _ in range(2))
    tenancy = Tenancy(MemoryStore(), MemoryStore(), "alone", 3600.0)
    observer = Observer(all_is_well(tenancy))
    observer.listen(lambda: second.fault)
    first.start()
    try:
        assert observer.problems() == []
        second.start()
        assert observer.problems() == [
            f"FLANNELPY_HTTP is 127.0.0.1:{port}: no health, metrics or page there (Address already in use)"
        ]
    finally:
        second.stop()
        first.stop()


def test_a_host_that_has_just_been_installed_has_no_problem_and_is_not_ready() -> None:
    tenancy = Tenancy(MemoryStore(), MemoryStore(), "new", 3600.0)
    observer = Observer(all_is_well(tenancy))
    assert observer.problems() == []
    assert observer.unready() == ["this host has no lease yet, as it has not reached the store (no beat since)"]
    tenancy.beat()
    assert (observer.problems(), observer.unready()) == ([], [])


def test_a_loop_that_stands_still_and_an_ear_that_is_deaf_are_no_health() -> None:
    ears = [SimpleNamespace(runs=True), SimpleNamespace(runs=True)]
    reconciler, rest = SimpleNamespace(idle=lambda: 9.0), {"watch": SimpleNamespace(idle=lambda: 0.0), "upkeeps": ()}
    observer = Observer(cast(Sources, SimpleNamespace(reconciler=reconciler, listeners=ears, **rest)))
    assert observer.stalled() == []
    ears[1].runs = False
    reconciler.idle = lambda: 61.0
    assert observer.stalled() == [
        "the reconciler has not looked at the kernel for 61 s",
        "what the kernel tells of changes is not heard",
    ]


def all_is_well(tenancy: Tenancy) -> Sources:
    """As far as problems are asked for."""
    reconciler = SimpleNamespace(faults=list, passes=1, underlay_fault="")
    nothing = {"reconciler": reconciler, "conflicts": SimpleNamespace(found=()), "upkeeps": ()}
    return cast(Sources, SimpleNamespace(tenancy=tenancy, ttl=60.0, away=lambda: None, unwritten=str, **nothing))
