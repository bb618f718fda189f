"""iperf3, sockperf and our own caller on a data path: what they measured, in the units of the tables."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.bench.datapaths import CONNECTIONS, CONNECTIONS_PROGRAM, IPERF, SOCKPERF, DataPath

MESSAGE = "64"  # bytes there, and as many back


@dataclass(frozen=True, slots=True)
class Stream:
    gbits_per_second: float
    cpu_per_gbit: float  # seconds of all processors of this machine, for all that happened on it meanwhile
    retransmits: int


def stream(path: DataPath, *options: str) -> Stream:
    """One TCP stream. Cubic everywhere: what most hosts use, whatever this machine is set to."""
    before = busy_seconds()
    client = ("iperf3", "-c", path.server.address, "-p", str(IPERF), "-J", "-C", "cubic")
    end = json.loads(path.client.run(*client, *options))["end"]
    busy = busy_seconds() - before
    received = end["sum_received"]
    return Stream(
        received["bits_per_second"] / 1e9, busy / (received["bytes"] * 8 / 1e9), end["sum_sent"]["retransmits"]
    )


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """In microseconds."""

    median: float
    p99: float


def round_trip(path: DataPath, protocol: str, seconds: int) -> RoundTrip:
    """sockperf's ping-pong: the next message leaves when the answer to the last one is there."""
    command = ("sockperf", "ping-pong", "-i", path.server.address, "-p", str(SOCKPERF), "-m", MESSAGE, "--full-rtt")
    tcp = ("--tcp",) if protocol == "tcp" else ()
    said = path.client.run(*command, *tcp, "-t", str(seconds))
    return RoundTrip(percentile(said, "50.000"), percentile(said, "99.000"))


def percentile(said: str, which: str) -> float:
    found = re.search(rf"percentile {re.escape(which)} =\s+([0-9.]+)", said)
    if found is None:
        raise ValueError(f"sockperf gave no percentile {which}: {said[-500:]}")
    return float(found[1])


def connections(path: DataPath, seconds: int) -> float:
    """New connections per second, one at a time."""
    caller = (sys.executable, "-I", CONNECTIONS_PROGRAM, "call")
    return float(path.client.run(*caller, path.server.address, str(CONNECTIONS), str(seconds)))


def busy_seconds() -> float:
    """What the machine's processors have spent on anything at all, interrupts included, in USER_HZ of a hundredth."""
    first = Path("/proc/stat").read_text().splitlines()[0]
    user, nice, system, _idle, _iowait, irq, softirq = map(int, first.split()[1:8])
    return (user + nice + system + irq + softirq) / 100
