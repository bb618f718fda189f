"""The web server of the agent starts and stops without a trace."""

import http.client
import threading

from flask import Flask

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
