"""What containers feel of the way between them, on every kind of network in turns within one run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.bench import Bench
from tests.bench.datapaths import FAST, FLANNEL, FLANNEL_UDP, HOST, OVERLAY, DataPath
from tests.bench.samples import Lines, Note, Row, in_turns, ratio
from tests.bench.tools import connections, round_trip, stream

WINDOWS = ("16K", "32K", "64K", "128K", "256K", "1M", "4M")  # socket buffers, which bound the TCP window
PAYLOADS = ("64", "256", "1K", "4K", "16K", "128K")  # bytes that the sender writes at once


VXLAN, HOST_GW = FAST["vxlan"], FAST["host-gw"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of our figure divided by theirs."""

    ours: str
    theirs: str
    least: float | None = None
    most: float | None = None


FASTER = (
    Wanted(VXLAN, OVERLAY, least=1.0),
    Wanted(VXLAN, FLANNEL, least=1.15),
    Wanted(HOST_GW, HOST, least=0.9),
    Wanted("host-gw", "vxlan", least=1.2),
    Wanted("udp", FLANNEL_UDP, least=10),
    Wanted("vxlan", OVERLAY, least=1.0),
    Wanted("vxlan", FLANNEL, least=1.15),
    Wanted("host-gw", HOST, least=0.9),
)
SOONER = (
    Wanted("host-gw", OVERLAY, most=1.0),
    Wanted("vxlan", OVERLAY, most=1.0),
    Wanted(VXLAN, OVERLAY, most=1.0),
    Wanted("udp", FLANNEL_UDP),
)
ARTICLE = (Wanted("host-gw", "vxlan"),)


def compared(rows: Mapping[str, Row], wanted: Sequence[Wanted]) -> Iterator[Row]:
    """The ratios of what could be measured here."""
    for one in wanted:
        if one.ours in rows and one.theirs in rows:
            yield ratio(rows[one.ours], rows[one.theirs], least=one.least, most=one.most)


def by_path(
    bench: Bench, rounds: int, measure: Callable[[DataPath], tuple[float, ...]]
) -> dict[str, list[list[float]]]:
    """For each path one list of samples per thing measured."""
    found: dict[str, list[tuple[float, ...]]] = {path.name: [] for path in bench.paths}
    for path in in_turns(bench.paths, rounds):
        found[path.name].append(measure(path))
    return {name: [list(samples) for samples in zip(*tuples, strict=True)] for name, tuples in found.items()}


def throughput(bench: Bench) -> Lines:
    """One TCP stream as fast as it goes, and the processor time of the whole machine for each gigabit of it."""

    def measure(path: DataPath) -> tuple[float, ...]:
        found = stream(path, *bench.effort.stream)
        return found.gbits_per_second, found.cpu_per_gbit, float(found.retransmits)

    samples = by_path(bench, bench.effort.rounds, measure)
    rows = {name: Row(name, "Gbit/s", fast) for name, (fast, _, _) in samples.items()}
    yield from rows.values()
    yield from compared(rows, FASTER)
    for name, (_, cpu, _) in samples.items():
        yield Row(f"CPU, {name}", "s/Gbit", cpu)
    sent_again = {name: sum(retransmits) for name, (_, _, retransmits) in samples.items()}
    told = ", ".join(f"{name} {count:g}" for name, count in sent_again.items() if count)
    yield Note(f"segments sent again, over all rounds: {told or 'none'}")
    yield from (Note(sentence) for sentence in bench.ways.missing)


def windows(bench: Bench) -> Lines:
    """One TCP stream by the size of the socket buffers, which bound its window: the first comparison of the article."""
    return swept(bench, WINDOWS, "-w")


def payloads(bench: Bench) -> Lines:
    """One TCP stream by the bytes that are written at once: the second comparison of the article."""
    return swept(bench, PAYLOADS, "-l")


def swept(bench: Bench, points: Sequence[str], option: str) -> Lines:
    for at in points[: bench.effort.points]:

        def measure(path: DataPath) -> tuple[float, ...]:
            return (stream(path, *bench.effort.stream, option, at).gbits_per_second,)  # noqa: B023 (called at once)

        samples = by_path(bench, bench.effort.sweep_rounds, measure)
        rows = {name: Row(name, "Gbit/s", fast, at) for name, (fast,) in samples.items()}
        yield from rows.values()
        yield from compared(rows, ARTICLE)


def udp_latency(bench: Bench) -> Lines:
    """A UDP message of 64 bytes there and one back (sockperf ping-pong)."""
    return latency(bench, "udp")


def tcp_latency(bench: Bench) -> Lines:
    """The same in a TCP connection."""
    return latency(bench, "tcp")


def latency(bench: Bench, protocol: str) -> Lines:
    def measure(path: DataPath) -> tuple[float, ...]:
        found = round_trip(path, protocol, bench.effort.seconds)
        return found.median, found.p99

    samples = by_path(bench, bench.effort.rounds, measure)
    rows = {name: Row(name, "us", medians) for name, (medians, _) in samples.items()}
    yield from rows.values()
    yield from compared(rows, SOONER)
    for name, (_, p99s) in samples.items():
        yield Row(f"p99, {name}", "us", p99s)


def new_connections(bench: Bench) -> Lines:
    """TCP connections made one after the other: three packets, a byte there and back, and the end."""
    samples = by_path(bench, bench.effort.rounds, lambda path: (connections(path, bench.effort.seconds),))
    rows = {name: Row(name, "1/s", rates) for name, (rates,) in samples.items()}
    yield from rows.values()
