"""Names: what the resolver can do, what that costs, and how soon a new container's name is known on every host."""

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench.bench import Bench
from tests.bench.queries import Answers, at_a_rate
from tests.bench.samples import Lines, Row
from tests.lab.asking import RESOLVER
from tests.lab.cluster import Cluster, Container
from tests.lab.lab import Lab
from tests.names_process import await_name, crowd, resolver

NAMES, RATE, SECONDS = 10_000, 5_000, 5  # queries a second
LATE, CORE = 2.0, 100.0  # ms, per cent
HOSTS, STARTS, SOON = 3, 50, 500.0  # ms
ASKER = Path(__file__).with_name("asker.py")


def answering(_: Bench) -> Lines:
    """Random ones of 10,000 names, at an even pace over UDP on loopback: each for the first time, again, and at four
    times the pace. A sample is what one second has to say."""
    with resolver() as running:
        running.tell(crowd(NAMES))
        await_name(running, f"c{NAMES - 1}")
        for what, rate in (("for the first time", RATE), ("again", RATE), ("at four times the pace", 4 * RATE)):
            yield from rows(at_a_rate(running, NAMES, rate, SECONDS), what, promised=rate == RATE)
        yield Row(f"memory, with {NAMES} names", "MB", [running.megabytes()])


def rows(found: Answers, what: str, *, promised: bool) -> Lines:
    rate = found.asked * 0.99 if promised else None
    yield Row(f"{what}: answers", "1/s", found.per_second, least=rate)
    yield Row(f"{what}: median of a second", "ms", found.median_ms)
    yield Row(f"{what}: 99th percentile of a second", "ms", found.p99_ms, most=LATE if promised else None)
    yield Row(f"{what}: of one core", "%", [found.cpu * 100], most=CORE)


def appearing(_: Bench) -> Lines:
    """Fifty containers started one after the other, each on the next of three hosts: from the return of `docker run`
    until a container of every host is told the name, which each of them asks Docker's resolver for again and again."""
    with Lab(hosts=HOSTS, dockerd_config={"dns": [RESOLVER]}) as lab, ExitStack() as last:
        cluster = Cluster(lab)
        cluster.start()
        cluster.create("web", "--subnet", "10.240.0.0/18")
        askers = [last.enter_context(Asker(cluster.run(host, "asker", "web"))) for host in lab.hosts]
        took = [appeared(askers, start(lab, number)) for number in range(STARTS)]
    yield Row(f"known on {HOSTS} hosts after `docker run`", "ms", took, p99_most=SOON)


def start(lab: Lab, number: int) -> str:
    """Its name."""
    name = f"c{number}"
    lab.hosts[number % HOSTS].run_container(name, "--network", "web")
    return name


def appeared(askers: list["Asker"], name: str) -> float:
    """Milliseconds from now until the last of them knows it."""
    began = time.monotonic()
    for asker in askers:
        asker.ask(name)
    return (max(asker.answered() for asker in askers) - began) * 1000


class Asker:
    """A program in a container's network."""

    def __init__(self, container: Container) -> None:
        into = (*container.host.enter, "nsenter", "-t", container.pid, "-n")
        command = (*into, sys.executable, "-I", str(ASKER))
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Asker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, name: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()

    def answered(self) -> float:
        """When; the clock is the machine's, and the same for all that run on it."""
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())
