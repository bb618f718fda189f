"""What the resolver can do: answers a second, how late they are, and what they cost.

`figures()` is what `make bench` and tests call; `python -m tests.lab.bench_names` prints them."""

import random
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from tests.names_process import HERE, Running, await_name, crowd, query, resolver

NAMES = 10_000
RATE = 5_000  # queries a second


@dataclass(frozen=True, slots=True)
class Answers:
    names: int
    per_second: float
    lost: int
    p50_ms: float
    p99_ms: float
    cpu: float  # part of one core
    megabytes: float

    def __str__(self) -> str:
        return (
            f"{self.per_second:.0f} answers/s from {self.names} names, {self.lost} lost, "
            f"{self.p50_ms:.2f} ms at the median, {self.p99_ms:.2f} ms at the 99th percentile, "
            f"{self.cpu:.0%} of one core, {self.megabytes:.0f} MB"
        )


def at_a_rate(running: Running, names: int, rate: int, seconds: float) -> Answers:
    """Random names at an even pace, each answer's delay by its own clock."""
    sent: dict[int, float] = {}
    count, late = int(rate * seconds), []
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.setblocking(False)
        client.connect((HERE, running.port))
        cpu, began, number = running.cpu(), time.perf_counter(), 0
        while number < count or (sent and time.perf_counter() < began + seconds + 0.5):
            now = time.perf_counter()
            while number < count and now >= began + number / rate:
                sent[number & 0xFFFF] = time.perf_counter()
                client.send(query(number & 0xFFFF, f"c{random.randrange(names)}"))
                number += 1
            select.select([client], [], [], max(0.0, began + number / rate - time.perf_counter()))
            try:
                while True:
                    reply = client.recv(600)
                    late.append(time.perf_counter() - sent.pop(int.from_bytes(reply[:2])))
            except BlockingIOError:
                pass
        took, cpu = time.perf_counter() - began, running.cpu() - cpu
    late.sort()
    p50, p99 = late[len(late) // 2] * 1000, late[len(late) * 99 // 100] * 1000
    return Answers(names, len(late) / took, count - len(late), p50, p99, cpu / took, running.megabytes())


def figures(seconds: float = 5.0) -> Iterator[str]:
    with resolver() as running:
        running.tell(crowd(NAMES))
        await_name(running, f"c{NAMES - 1}")
        yield f"each name for the first time: {at_a_rate(running, NAMES, RATE, seconds)}"
        yield f"again: {at_a_rate(running, NAMES, RATE, seconds)}"
        yield f"at four times the rate: {at_a_rate(running, NAMES, 4 * RATE, seconds)}"


if __name__ == "__main__":
    for line in figures():
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
