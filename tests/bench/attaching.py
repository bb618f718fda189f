"""What flannelpy's own calls cost: one connection and one answer each, as dockerd asks for a container."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from tests.bench.bed import Bed, milliseconds_since
from tests.bench.bench import Bench
from tests.bench.samples import Lines, Note, Row

WARM_UP, ROUNDS, AT_ONCE, CROWD = 20, 200, 8, 50
ATTACH_MEDIAN, ATTACH_P99 = 15.0, 50.0  # ms


def fsync(bench: Bench) -> Lines:
    """The machine: one durable write. flannelpy makes one in RequestAddress and one in CreateEndpoint."""
    bed = bench.bed
    took, path = [], bed.state_dir / "bench"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        for number in range(ROUNDS):
            began = time.perf_counter()
            os.pwrite(descriptor, b"x" * 4096, number % 16 * 4096)
            os.fsync(descriptor)
            took.append(milliseconds_since(began))
    finally:
        os.close(descriptor)
        path.unlink()
    yield Row("write 4 KiB + fsync in the state directory", "ms", took)


def empty_call(bench: Bench) -> Lines:
    """What every call costs before anything is done."""
    bed = bench.bed
    rounds = [bed.call("NetworkDriver.GetCapabilities", {})[1] for _ in range(WARM_UP + ROUNDS)]
    yield Row("a call that does nothing (GetCapabilities)", "ms", rounds[WARM_UP:])


def attach(bench: Bench) -> Lines:
    """RequestAddress, CreateEndpoint and Join of one container after the other."""
    bed = bench.bed
    blocks, cpu = bed.blocks_taken(), bed.cpu_seconds()
    yield from attachment_rows("one by one", measured_rounds(bed, ROUNDS))
    cpu_each = (bed.cpu_seconds() - cpu) / (WARM_UP + ROUNDS) * 1000
    yield Note(f"{bed.blocks_taken() - blocks} of these also took a block from Consul, since released addresses rest")
    yield Note(f"flannelpy used {cpu_each:.1f} ms of CPU for each container, to attach and to detach it")


def attach_among_many(bench: Bench) -> Lines:
    """The same on a host that has many containers already."""
    bed = bench.bed
    crowd = [bed.attach()[0] for _ in range(CROWD)]
    try:
        yield from attachment_rows(f"among {CROWD} endpoints", measured_rounds(bed, ROUNDS))
    finally:
        for attachment in crowd:
            attachment.undo()


def attach_at_once(bench: Bench) -> Lines:
    """The same with several at a time, as when a host starts all its containers."""
    bed = bench.bed
    began = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        shares = [pool.submit(measured_rounds, bed, ROUNDS // AT_ONCE, 2) for _ in range(AT_ONCE)]
        rounds = list(chain.from_iterable(share.result() for share in shares))
    rate = (len(rounds) + 2 * AT_ONCE) / (time.perf_counter() - began)
    yield from attachment_rows(f"{AT_ONCE} at once", rounds)
    yield Note(f"{rate:.0f} containers attached and detached again per second")


def measured_rounds(bed: Bed, count: int, warm_up: int = WARM_UP) -> list[dict[str, float]]:
    rounds = []
    for _ in range(warm_up + count):
        attachment, took = bed.attach()
        attachment.undo()
        rounds.append(took)
    return rounds[warm_up:]


def attachment_rows(how: str, rounds: Sequence[Mapping[str, float]]) -> Iterator[Row]:
    sums = [sum(took.values()) for took in rounds]
    yield Row(f"attach a container, {how}", "ms", sums, most=ATTACH_MEDIAN, p99_most=ATTACH_P99)
    for call in rounds[0]:
        yield Row(f"of which {call}, {how}", "ms", [took[call] for took in rounds])
