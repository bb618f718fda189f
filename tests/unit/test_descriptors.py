"""A process with very many file descriptors works as one with few: select(), for one, knows none beyond 1023."""

import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus
from http.client import HTTPConnection
from ipaddress import IPv4Address

import pytest
from flask import Flask

from driver import clocks
from driver.probe import Echo, ping_one
from operations.web import WebServer
from plugin import descriptors
from tests.consul_agent import free_ports

MANY = 1100


@pytest.fixture
def many() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, MANY + 200), hard))
    with ExitStack() as held:
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        first = os.open(os.devnull, os.O_RDONLY)
        held.callback(os.close, first)
        for _ in range(MANY):
            held.callback(os.close, os.dup(first))
        yield


@pytest.mark.usefixtures("many")
def test_health_and_metrics_are_served_beyond_the_thousandth() -> None:
    [port] = free_ports(1)
    server = WebServer(Flask(__name__, static_folder=None), ("127.0.0.1", port))
    server.start()
    client = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        client.request("GET", "/")
        assert client.getresponse().status == HTTPStatus.NOT_FOUND
    finally:
        client.close()
        server.stop()


@pytest.mark.usefixtures("many")
def test_other_hosts_are_asked_beyond_the_thousandth() -> None:
    here = IPv4Address("127.0.0.1")
    try:
        assert clocks.ahead({"here": here}, 5).keys() == {"here"}
    except PermissionError:
        pytest.skip("needs CAP_NET_RAW")
    assert ping_one(Echo(here)).reply


def test_a_limit_is_raised_as_far_as_it_may() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        descriptors.raise_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_descriptor_that_is_none_is_not_taken_for_want_of_them() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        descriptors.has_room(1 << 20)
    assert descriptors.has_room(0)
