"""What `flannelpy serve` may do, looked at before anything is begun."""

import os
import re
from pathlib import Path

_NEEDED = {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW"}  # linux/capability.h


def missing() -> str:
    """One sentence, empty if nothing is."""
    if os.geteuid() != 0:
        return "flannelpy serve needs root: it changes this host's interfaces and routes"
    if absent := lacking(Path("/proc/self/status").read_text()):
        return f"flannelpy serve needs {' and '.join(absent)}: give it the capabilities that `flannelpy install` gives"
    return ""


def lacking(status: str) -> list[str]:
    """`status` is /proc/self/status."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    held = int(found[1], 16) if found else 0
    return [name for bit, name in _NEEDED.items() if not held >> bit & 1]
