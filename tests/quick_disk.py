"""Files in memory, where an fsync costs nothing: what tests end is a process, not the machine."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

IN_MEMORY = Path("/dev/shm")
ENOUGH = 1 << 30  # bytes; in a container it may be small


@contextmanager
def quick_directory() -> Iterator[Path]:
    """A temporary one, on the disk where memory is short."""
    is_large = IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free >= ENOUGH
    with TemporaryDirectory(dir=IN_MEMORY if is_large else None) as name:
        yield Path(name)
