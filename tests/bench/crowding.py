"""How long dockerd waits for flannelpy when very many containers start, and end, at once: three hosts on one machine.

The kernel changes the links of one container at a time, for all that run on it; three real hosts have three kernels.
A bystander, in a namespace of its own, asks the kernel for nothing but a link that is up already to be up, and so
tells how long one place in that queue is. A container that starts takes one of them in flannelpy, and several in
dockerd."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from driver.kernel import Kernel
from driver.plan import Put
from driver.state import LinkState
from tests.bench.bench import Bench
from tests.bench.samples import Lines, Note, Row
from tests.lab.answers import answers
from tests.lab.cluster import Cluster, side_by_side
from tests.lab.docker_host import DockerHost
from tests.lab.lab import Lab
from tests.lab.namespaces import Namespace

HOSTS, EACH = 3, 66
LONGEST = 1000.0  # ms
NOTHING = Put(LinkState("lo", 65536))  # as it is anyway
PAUSE = 0.02  # seconds between two questions of the bystander


def crowd(_: Bench) -> Lines:
    """66 containers on each of three hosts, started all at once and then removed; and the same on one of them while the
    others have nothing to do, which is what each of three real hosts has to do. The network stays: among so many that
    end at once Docker may lose count (docs/troubleshooting.md), and then it does not let it go."""
    with Lab(hosts=HOSTS) as lab:
        cluster = Cluster(lab)
        cluster.start(FLANNELPY_LOG="debug")
        cluster.create("web", "--subnet", "10.240.0.0/18")
        for hosts in (cluster.hosts[:1], cluster.hosts):
            yield from _at_once(cluster, hosts)


def _at_once(cluster: Cluster, hosts: Sequence[DockerHost]) -> Lines:
    on = f"on {len(hosts)} host{'s' * (len(hosts) > 1)}"
    before = [len(host.flannelpy_log()) for host in hosts]
    wanted = [(host, f"c{number}") for host in hosts for number in range(EACH)]
    with bystander(f"{cluster.lab.prefix}by") as waits:
        side_by_side(lambda one: cluster.run(*one, "web"), wanted)
        side_by_side(DockerHost.remove_containers, hosts)
    found = answers("".join(host.flannelpy_log()[start:] for host, start in zip(hosts, before, strict=True)))
    for call in ("/IpamDriver.RequestAddress", "/NetworkDriver.Join", "/NetworkDriver.DeleteEndpoint"):
        took = [milliseconds for milliseconds, answered in found if answered == call]
        yield Row(f"{call.rpartition('.')[2]}, {on}", "ms", took, p99_most=LONGEST)
    slowest, call = found[0]
    yield Row(f"the slowest answer, {on}", "ms", [slowest], most=LONGEST)
    yield Row(f"one place in the kernel's queue, for a bystander, {on}", "ms", waits)
    yield Note(f"The slowest answer {on} was to {call.rpartition('.')[2]}.")


@contextmanager
def bystander(name: str) -> Iterator[list[float]]:
    """The milliseconds that each question takes, while the block runs."""
    namespace, over, waits = Namespace(name), threading.Event(), list[float]()
    namespace.create()

    def ask() -> None:
        with Kernel(name) as kernel:
            while not over.wait(PAUSE):
                began = time.perf_counter()
                kernel.apply(NOTHING)
                waits.append((time.perf_counter() - began) * 1000)

    thread = threading.Thread(target=ask, name="bystander")
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join()
        namespace.delete()
