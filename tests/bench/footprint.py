"""What flannelpy holds in memory, all its processes together: at rest, when dockerd calls much at once, and with many
containers."""

from concurrent.futures import ThreadPoolExecutor

from tests.bench.bed import Bed
from tests.bench.bench import Bench
from tests.bench.samples import Lines, Note, Row
from tests.memory import held_by

THREADS, CALLS = 32, 320  # as many as gunicorn has, each of them used
CONTAINERS, AT_ONCE = 200, 8
MOST = 100.0  # MB


def memory(bench: Bench) -> Lines:
    """One host with a network, its resolver running: proportional set sizes, so what processes share counts once."""
    bed = bench.bed
    yield row(bed, "with a network")
    yield Note(f"of which master, worker, resolver: {each(bed)} MB")
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(lambda _: bed.call("NetworkDriver.GetCapabilities", {}), range(CALLS)):
            pass
    yield row(bed, f"after {THREADS} calls at once")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        attached = list(pool.map(lambda _: bed.attach()[0], range(CONTAINERS)))
        yield row(bed, f"with {CONTAINERS} containers")
        list(pool.map(lambda attachment: attachment.undo(), attached))
    yield row(bed, "after they are gone")
    yield Note(f"of which master, worker, resolver: {each(bed)} MB")


def row(bed: Bed, when: str) -> Row:
    return Row(f"memory, {when}", "MB", [held_by(bed.processes()) / 1e6], most=MOST)


def each(bed: Bed) -> str:
    return ", ".join(f"{held_by([pid]) / 1e6:.1f}" for pid in bed.processes())
