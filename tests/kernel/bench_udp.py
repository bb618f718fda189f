"""`python -m tests.kernel.bench_udp [ROUNDS]`: TCP throughput of the udp backend beside vxlan and the bare cable.

Two network namespaces of this machine, iperf3, one stream, the paths in turns; so only the ratios mean anything."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

from driver.backends.interface import Remote
from driver.goal import LocalNetwork, goal
from driver.model import Network
from driver.state import State
from tests.kernel.conftest import cabled
from tests.kernel.udp_hosts import UdpHost, joined

SECONDS = 3
POOL = ip_network("10.250.0.0/18")
VXLAN = Network("v", (POOL,), (POOL[1],), "vxlan", 9, 8479, None, False, ())
BLOCKS = [ip_network("10.250.1.0/26"), ip_network("10.250.2.0/26")]


def with_vxlan(host: UdpHost) -> State:
    other = 1 - host.number
    remote = Remote(f"h{other}", (ip_address(f"192.0.2.{other + 1}"),), (BLOCKS[other],))
    network = replace(VXLAN, host_addresses=(BLOCKS[host.number][1],))
    local = LocalNetwork(network, (), (remote,))
    return {**host.desired(host.underlay()), **goal(f"h{host.number}", host.underlay(), [local], {})}


def gigabits(source: UdpHost, target: UdpHost, address: object) -> float:
    """Of one stream, as the receiver counts them."""
    enter = ("ip", "netns", "exec")
    server = [*enter, target.host.name, "iperf3", "-s", "-1", "--forceflush"]
    with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        while "listening" not in serving.stdout.readline():
            pass
        client = [*enter, source.host.name, "iperf3", "-c", str(address), "-t", str(SECONDS), "-J"]
        done = subprocess.run(client, check=True, stdout=subprocess.PIPE, text=True, timeout=60)
        serving.communicate()
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9


def private_memory(host: UdpHost) -> int:
    """KiB of the forwarder's memory that it shares with nobody."""
    [pid] = host.forwarders()
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))


def lose(host: UdpHost, other: UdpHost) -> None:
    """From now on every packet goes through the cable by itself, and of those to `host` one in a hundred is lost."""
    for each in (host, other):
        each.host.ip("link", "set", "eth0", "gso_max_segs", "1")
    rules = "add table netdev t; add chain netdev t c { type filter hook ingress device eth0 priority 0; };"
    host.host.run("nft", rules + "add rule netdev t c udp dport { 8478, 8479 } numgen random mod 100 < 1 drop")


def main(rounds: int) -> None:
    measured: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as directory, cabled() as hosts, joined(hosts, Path(directory)) as (a, b):
        for each in (a, b):
            each.settle(with_vxlan(each))
        paths = {"veth": "192.0.2.2", "vxlan": BLOCKS[1][1], "udp": b.address, "udp, IPv6": b.address6}
        print(f"forwarder at rest: {private_memory(a)} KiB", flush=True)
        for _ in range(rounds):
            for path, address in paths.items():
                measured.setdefault(path, []).append(gigabits(a, b, address))
        lose(b, a)
        for _ in range(rounds):
            for path in ("vxlan", "udp"):
                measured.setdefault(f"{path}, 1 % lost", []).append(gigabits(a, b, paths[path]))
        print(f"forwarder after it: {private_memory(a)} KiB; not carried: {a.counters()} {b.counters()}")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for path, figures in measured.items():
        print(f"{path:16} {' '.join(f'{f:6.2f}' for f in figures)}   median {statistics.median(figures):.2f} Gbit/s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
