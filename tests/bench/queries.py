"""Queries at an even pace for the resolver's process, and how late its answers are."""

import random
import select
import socket
import statistics
import time
from contextlib import closing
from dataclasses import dataclass

from tests.names_process import HERE, Running, query


@dataclass(frozen=True, slots=True)
class Answers:
    """Second by second."""

    asked: int  # a second
    per_second: list[float]
    median_ms: list[float]
    p99_ms: list[float]
    cpu: float  # part of one core


def at_a_rate(running: Running, names: int, rate: int, seconds: int) -> Answers:
    """Random names, each answer's delay by its own clock. An answer that is not there after half a second is lost."""
    sent: dict[int, tuple[int, float]] = {}  # number and time, by id
    late: list[list[float]] = [[] for _ in range(seconds)]
    count = rate * seconds
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.setblocking(False)
        client.connect((HERE, running.port))
        cpu, began, number = running.cpu(), time.perf_counter(), 0
        while number < count or (sent and time.perf_counter() < began + seconds + 0.5):
            now = time.perf_counter()
            while number < count and now >= began + number / rate:
                sent[number & 0xFFFF] = number, time.perf_counter()
                client.send(query(number & 0xFFFF, f"c{random.randrange(names)}"))
                number += 1
            select.select([client], [], [], max(0.0, began + number / rate - time.perf_counter()))
            try:
                while True:
                    reply = client.recv(600)
                    which, then = sent.pop(int.from_bytes(reply[:2]))
                    late[which // rate].append((time.perf_counter() - then) * 1000)
            except BlockingIOError:
                pass
        took, cpu = time.perf_counter() - began, running.cpu() - cpu
    quantiles = [statistics.quantiles(some, n=100) for some in late]
    return Answers(
        rate, [len(some) for some in late], [q[49] for q in quantiles], [q[98] for q in quantiles], cpu / took
    )
