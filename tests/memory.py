"""What processes hold in memory."""

from collections.abc import Collection
from pathlib import Path


def held_by(pids: Collection[int]) -> int:
    """Bytes, proportional: what two of them share counts once."""
    return sum(
        int((Path("/proc") / str(pid) / "smaps_rollup").read_text().partition("\nPss:")[2].split()[0]) * 1024
        for pid in pids
    )


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):  # of each thread
            found += map(int, children.read_text().split())
    return found
