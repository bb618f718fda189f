"""What a measurement yields: samples with their median and spread, and what was wanted of them."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

RATIO = "ratio"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """Samples of one thing. `at` is the point of a swept figure; `least`, `most` and `p99_most` are the targets."""

    what: str
    unit: str
    samples: Sequence[float]
    at: str = ""
    least: float | None = None
    most: float | None = None
    p99_most: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def p99(self) -> float:
        """By nearest rank: of fewer than 100 samples the largest."""
        return sorted(self.samples)[math.ceil(0.99 * len(self.samples)) - 1]

    @property
    def wanted(self) -> str:
        """Empty where nothing is."""
        asked = (("at least", self.least), ("at most", self.most), ("p99 at most", self.p99_most))
        return ", ".join(f"{how} {value:g}" for how, value in asked if value is not None)

    @property
    def met(self) -> bool:
        """At the median, and at the 99th percentile where that is asked."""
        return (
            (self.least is None or self.median >= self.least)
            and (self.most is None or self.median <= self.most)
            and (self.p99_most is None or self.p99 <= self.p99_most)
        )

    @property
    def verdict(self) -> str:
        if not self.wanted:
            return ""
        return "met" if self.met else "MISSED"


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence below the rows, for what a reader must know to judge them."""

    text: str


Lines = Iterator[Row | Note]


def ratio(ours: Row, theirs: Row, *, least: float | None = None, most: float | None = None) -> Row:
    """Round by round, since both of a round met the same machine."""
    rounds = [one / other for one, other in zip(ours.samples, theirs.samples, strict=True)]
    return Row(f"{ours.what} / {theirs.what}", RATIO, rounds, ours.at, least, most)


def in_turns(things: Sequence[T], rounds: int) -> Iterator[T]:
    """Each once in every round, and another one first each time."""
    for number in range(rounds):
        first = number % len(things)
        yield from (*things[first:], *things[:first])


def shown(value: float) -> str:
    """Three significant digits, and never fewer than there are before the point."""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f}" if abs(value) >= 0.1 or value == 0 else f"{value:.3f}"
