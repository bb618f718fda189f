"""The tools of `make bench`, each for a moment on the way between two hosts: that they run, not what they say."""

from tests.bench import starts, traffic
from tests.bench.bench import Bench, Effort
from tests.bench.datapaths import Ways, ours
from tests.bench.samples import Row
from tests.lab.cluster import Cluster

BRIEF = Effort(rounds=1, sweep_rounds=1, stream=("-n", "1M"), points=1, seconds=1, runs=1)


def test_every_figure_of_traffic_can_be_measured(cluster: Cluster) -> None:
    with Ways() as ways:
        ways.add("vxlan", lambda: ours(cluster, "path", ("-o", "backend=vxlan"), "10.230.0.0/18"))
        bench = Bench(BRIEF, cluster, ways)
        for measure in (
            *(traffic.throughput, traffic.windows, traffic.payloads, traffic.udp_latency, traffic.tcp_latency),
            *(traffic.new_connections, starts.docker_run),
        ):
            rows = [line for line in measure(bench) if isinstance(line, Row)]
            assert rows, measure
            assert min(min(row.samples) for row in rows if row.unit != "s/Gbit") >= 0, measure
            assert rows[0].median > 0, measure
    assert ways.missing == []
