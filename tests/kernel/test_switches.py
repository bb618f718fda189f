"""The kernel's switches, where only a kernel can say what they do."""

import json
import socket
import struct
from contextlib import suppress
from functools import partial

from driver import sysctl
from tests.kernel.conftest import NamespaceHost, inside, ip
from tests.lab.commands import wait_until

ADVERTISEMENT = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)  # ICMPv6: a default router, for half an hour
ALL_NODES = "ff02::1"


def advertise(link: str) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as router:
        router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        router.sendto(ADVERTISEMENT, (ALL_NODES, 0, 0, socket.if_nametoindex(link)))


def defaults(host: NamespaceHost) -> set[str]:
    """The links of IPv6 default routes."""
    return {route["dev"] for route in json.loads(host.ip("-j", "-6", "route", "show", "default"))}


def test_default_routes_that_routers_advertise_stay_when_forwarding_begins(
    two_hosts: tuple[NamespaceHost, NamespaceHost],
) -> None:
    """Also where they lead elsewhere than to the other hosts; but no router is heard where there was none."""
    host, router = two_hosts
    host.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=0", "net.ipv6.conf.default.accept_ra=1")
    for link in ("eth1", "eth2"):
        ip("link", "add", link, "netns", host.name, "type", "veth", "peer", "name", link, "netns", router.name)
        for each in (host, router):
            each.ip("link", "set", link, "up")
    host.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=1")

    def learned() -> bool:
        for link in ("eth0", "eth1"):
            with suppress(OSError):  # the link has no address yet
                inside(router.name, partial(advertise, link))
        return defaults(host) == {"eth0", "eth1"}

    wait_until("default routes by advertisement", learned, timeout=10, every=0.1)
    for _ in range(2):
        inside(host.name, lambda: sysctl.ensure_forwarding(6, "eth0"))
        switches = ("all.forwarding", "eth1.accept_ra", "eth2.accept_ra")
        found = host.run("sysctl", "-n", *(f"net.ipv6.conf.{switch}" for switch in switches)).stdout.split()
        assert found == ["1", "2", "1"]
        assert defaults(host) == {"eth0", "eth1"}
