"""How long dockerd waited for flannelpy, from flannelpy's log."""

import re

ANSWERED = re.compile(r" answered call=(/\S+Driver\.\S+) .*ms=([0-9.]+)")


def answers(log: str) -> list[tuple[float, str]]:
    """Milliseconds and the call, the slowest first."""
    return sorted(((float(took), call) for call, took in ANSWERED.findall(log)), reverse=True)
