"""All figures, by the name that `python -m tests.bench NAME` takes. A new one is a function and a line here."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench import addresses, attaching, crowding, footprint, naming, scaling, spreading, starts, traffic
from tests.bench.bench import Bench
from tests.bench.samples import Lines


@dataclass(frozen=True, slots=True)
class Figure:
    """`measure` yields the rows; its docstring says what they are. `axis` names what a swept figure goes through."""

    title: str
    measure: Callable[[Bench], Lines]
    axis: str = ""
    plotted: bool = True


FIGURES = {
    "throughput": Figure("TCP throughput", traffic.throughput),
    "windows": Figure("TCP throughput by window size", traffic.windows, axis="socket buffers"),
    "payloads": Figure("TCP throughput by payload size", traffic.payloads, axis="bytes per write"),
    "udp": Figure("Round trip, UDP", traffic.udp_latency),
    "tcp": Figure("Round trip, TCP", traffic.tcp_latency),
    "connections": Figure("New TCP connections", traffic.new_connections),
    "run": Figure("docker run", starts.docker_run),
    "fsync": Figure("The machine's disk", attaching.fsync, plotted=False),
    "call": Figure("An empty call", attaching.empty_call, plotted=False),
    "attach": Figure("Attaching containers", attaching.attach, plotted=False),
    "many": Figure("Attaching among many", attaching.attach_among_many, plotted=False),
    "parallel": Figure("Attaching at once", attaching.attach_at_once, plotted=False),
    "memory": Figure("Memory", footprint.memory, plotted=False),
    "addresses": Figure("Giving addresses", addresses.giving, plotted=False),
    "spread": Figure("Networks on all hosts", spreading.spread, plotted=False),
    "names": Figure("Answering for names", naming.answering, plotted=False),
    "appear": Figure("New names on all hosts", naming.appearing, plotted=False),
    "crowd": Figure("Very many containers at once", crowding.crowd, plotted=False),
    "store": Figure("The store's traffic", scaling.traffic, plotted=False),
    "hosts": Figure("Many hosts", scaling.many_hosts, plotted=False),
}
