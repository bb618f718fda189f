"""The web server of the agent starts and stops without a trace, and tells where it cannot."""

import http.client
import threading
from types import SimpleNamespace
from typing import cast

from flask import Flask

from operations.observer import Observer, Sources
from operations.web import WebServer
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
    observer = Observer(all_is_well())
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


def test_a_loop_that_stands_still_and_an_ear_that_is_deaf_are_no_health() -> None:
    ears = [SimpleNamespace(runs=True), SimpleNamespace(runs=True)]
    reconciler = SimpleNamespace(idle=lambda: 9.0)
    observer = Observer(cast(Sources, SimpleNamespace(reconciler=reconciler, listeners=ears)))
    assert observer.stalled() == []
    ears[1].runs = False
    reconciler.idle = lambda: 61.0
    assert observer.stalled() == [
        "the reconciler has not looked at the kernel for 61 s",
        "what the kernel tells of changes is not heard",
    ]


def all_is_well() -> Sources:
    """As far as problems are asked for."""
    tenancy = SimpleNamespace(retelling=False, silence=lambda: 1.0, refuse_if_fenced=lambda: None)
    nothing = {"reconciler": SimpleNamespace(faults=list), "conflicts": SimpleNamespace(found=()), "upkeeps": ()}
    return cast(Sources, SimpleNamespace(tenancy=tenancy, ttl=60.0, away=lambda: None, **nothing))
