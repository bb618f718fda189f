"""flannel's udp backend between two Docker hosts: its own C program, compiled from a source tree of flannel.

What its Go part makes around that is made here: containers on a Docker bridge with a /24 of their own, a TUN device
without offloads, 28 bytes of MTU below the underlay's, to which the whole pool is routed, and UDP port 8285."""

import os
import sys
from pathlib import Path

from tests.bench.flannel_layout import accept, bridge
from tests.lab.commands import run, wait_until
from tests.lab.docker_host import DockerHost

VARIABLE = "FLANNEL_SOURCE"
PROGRAM = "pkg/backend/udp/proxy_amd64.c"
RUN = str(Path(__file__).with_name("flannel_proxy.py"))
POOL, DEVICE = "10.253.0.0/16", "flannel0"
OVERHEAD = 28
TUNNEL = """
ip tuntap add dev "$1" mode tun
ip addr add "$2/32" dev "$1"
ip link set "$1" mtu "$3" up
ip route add "$4" dev "$1"
"""


class Unavailable(Exception):
    """Why it cannot be made here, and what to do."""


def source() -> Path:
    tree = os.environ.get(VARIABLE, "")
    if not tree:
        raise Unavailable(f"it takes {VARIABLE}, the path of a source tree of flannel, whose C program is compiled")
    if not (Path(tree) / PROGRAM).is_file():
        raise Unavailable(f"{VARIABLE} is {tree}, where there is no {PROGRAM}")
    return Path(tree) / PROGRAM


def lay_out(one: DockerHost, other: DockerHost, network: str) -> None:
    library = one.directory / "flannel-udp.so"
    run("gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source()))
    mtu = str(one.switch.mtu - OVERHEAD)
    for number, (host, peer) in enumerate([(one, other), (other, one)], start=1):
        mine, theirs = f"10.253.{number}.0", f"10.253.{3 - number}.0"
        bridge(host, network, f"{mine}/24", int(mtu))
        accept(host, POOL)
        host.run("sh", "-ec", TUNNEL, "sh", DEVICE, mine, mtu, POOL)
        arguments = (str(library), DEVICE, mtu, mine, host.address, f"{theirs}/24", peer.address)
        proxy = host.daemon("flannel's udp", sys.executable, "-I", RUN, *arguments, log="flannel-udp.log")
        carrier = f"/sys/class/net/{DEVICE}/carrier"
        wait_until("flannel's udp", lambda: host.run("cat", carrier) == "1", timeout=10, tail=proxy.tail)  # noqa: B023 (called at once)
