"""Whether another machine lives with this one's identity: one was cloned, or set back to an earlier state.

By their journals both hold the same blocks, so each would give out what the other gives. But a host's record is written
by that host alone, with a number that only grows, and that it writes down before it sends it: a higher one is somebody
else's, or was forgotten since then. Who lives writes again within a period; who is no more does not."""

from dataclasses import dataclass, replace

STILL = 3  # periods that were watched without a beat, after which nobody lives there
LONGEST_GAP = 1.5  # periods between two looks: after a longer one, the store may have been away for both


@dataclass(frozen=True, slots=True)
class _Watched:
    """Since when this process has seen the record at a version, in seconds of its own clock."""

    version: int
    since: float
    until: float


class Copies:
    def __init__(self, remembered: int | None) -> None:
        """`remembered` is the last beat that earlier processes sent, None if it may have been any."""
        self._highest = float("inf") if remembered is None else remembered
        self._watched: _Watched | None = None

    def sending(self, beat: int) -> None:
        """To be told before each beat: whether it arrives, nobody knows."""
        self._highest = beat

    def sent(self, beat: int) -> bool:
        """Whether it may be one of this host's own."""
        return beat <= self._highest

    def may_live(self, version: int, now: float, period: float) -> bool:
        """Whether somebody else may live with this identity, after one more look at the record."""
        seen = self._watched
        if seen is None or seen.version != version or now - seen.until > LONGEST_GAP * period:
            seen = _Watched(version, now, now)
        self._watched = replace(seen, until=now)
        return now - seen.since < STILL * period
