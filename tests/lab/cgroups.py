"""The machine's control groups: whoever names a parent for a Docker Engine's containers also clears it away."""

from collections.abc import Iterator
from pathlib import Path

from tests.lab.commands import wait_until


def hierarchies() -> Iterator[Path]:
    """Every mounted one, of version 1, version 2 or both."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind in ("cgroup", "cgroup2"):
            yield Path(where)


def groups_of(prefix: str) -> list[Path]:
    """Every group below the root whose name starts with the prefix, and every group in those, the innermost first."""
    tops = [top for root in hierarchies() for top in root.glob(f"{prefix}*") if top.is_dir()]
    return [inner for top in tops for inner in [*sorted((p for p in top.rglob("*") if p.is_dir()), reverse=True), top]]


def remove(prefix: str) -> None:
    """A group whose last process has just died refuses for a moment more."""

    def all_gone() -> bool:
        for group in groups_of(prefix):
            try:
                group.rmdir()
            except OSError:
                return False
        return True

    wait_until(f"the removal of the control groups {prefix}*", all_gone, timeout=10)
