"""`docker run -d` by the clock on the wall, in turns, on our network and on Docker's own."""

import time

from tests.bench.bench import Bench
from tests.bench.datapaths import BRIDGE, OVERLAY
from tests.bench.samples import Lines, Note, Row, in_turns, ratio
from tests.lab.cluster import FLANNELPY
from tests.lab.commands import CommandFailed
from tests.lab.docker_host import DockerHost

OF_BRIDGE, OF_OVERLAY = 1.10, 0.33
DOCKERS = {BRIDGE: "path-bridge", OVERLAY: "path-overlay"}
OURS = {"flannelpy": (), "gateway=direct": ("-o", "gateway=direct"), "--internal": ("--internal",)}


def docker_run(bench: Bench) -> Lines:
    """A container without any work, from the prompt to the prompt."""
    host = bench.cluster.hosts[0]
    made = {path.name for path in bench.paths}
    networks = {name: network for name, network in DOCKERS.items() if name in made}
    for number, (name, options) in enumerate(OURS.items()):
        network = f"bench-run-{number}"
        try:
            host.docker("network", "create", *FLANNELPY, "--subnet", f"10.243.{number}.0/24", *options, network)
        except CommandFailed as error:
            yield Note(f"no {name}: {error.stderr.strip()}")
        else:
            networks[name] = network
    took: dict[str, list[float]] = {name: [] for name in networks}
    for name in in_turns(list(networks), bench.effort.runs + 1):
        took[name].append(timed_run(host, networks[name]))
    rows = {name: Row(name, "ms", samples[1:]) for name, samples in took.items()}  # the first of each warmed up
    yield from rows.values()
    yield from ratios(rows)
    yield Note("a container on flannelpy also gets a docker_gwbridge interface, which the two others of ours leave out")


def ratios(rows: dict[str, Row]) -> Lines:
    for theirs, most in ((BRIDGE, OF_BRIDGE), (OVERLAY, OF_OVERLAY)):
        if theirs in rows:
            yield ratio(rows["flannelpy"], rows[theirs], most=most)


def timed_run(host: DockerHost, network: str) -> float:
    began = time.perf_counter()
    container = host.run_container("bench", "--network", network)
    took = (time.perf_counter() - began) * 1000
    host.docker("rm", "-f", container)
    return took
