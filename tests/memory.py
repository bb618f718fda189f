"""What processes hold in memory, and the time that they have used."""

import os
from collections.abc import Collection
from pathlib import Path


def held_by(pids: Collection[int]) -> int:
    """Bytes, proportional: what two of them share counts once."""
    return sum(
        int((Path("/proc") / str(pid) / "smaps_rollup").read_text().partition("\nPss:")[2].split()[0]) * 1024
        for pid in pids
    )


def cpu_seconds(pids: Collection[int]) -> float:
    """So far, which says little of the machine's other work."""
    stats = [(Path("/proc") / str(pid) / "stat").read_text() for pid in pids]
    times = [stat.rpartition(")")[2].split()[11:13] for stat in stats]  # utime and stime
    return sum(int(ticks) for pair in times for ticks in pair) / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):  # of each thread
            found += map(int, children.read_text().split())
    return found
