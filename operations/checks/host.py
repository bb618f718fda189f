"""This host itself: its Engine, its disk, and what flannelpy does here."""

from collections.abc import Iterator

from operations.checks.finding import error, warning
from operations.checks.store import refusal
from operations.facts import Facts
from operations.model import Finding

LITTLE, FEW = 1 << 30, 0.05  # bytes and share of the disk that are free, where it is nearly full
ENGINES_OWN = ("garbage", "conflicts")  # duties that ask the Engine; that it is away is told by itself
STORES_OWN = "Consul at "  # what failed for want of the store begins so, and is told by itself


def engine_answers(facts: Facts) -> Iterator[Finding]:
    if facts.engine_error is not None:
        yield error(
            "engine",
            facts.engine_error,
            "start Docker, or set FLANNELPY_DOCKER to where its API listens; networks go on, but nothing that "
            "Docker gave up is found",
        )


def disk_has_room(facts: Facts) -> Iterator[Finding]:
    if facts.disk is None:
        yield error(
            "disk",
            "the state directory is gone, or its host.db: nothing can be written down, so no address is given out",
            "stop the containers of flannelpy networks, then restart flannelpy: it knows nothing of them and removes "
            "their links, and begins as a new installation",
        )
    elif facts.unwritten:
        yield error(
            "disk",
            facts.unwritten,
            "make room, or see why the disk refuses (`dmesg`); flannelpy goes on by itself as soon as it can write",
        )
    elif _is_little(*facts.disk):
        free, total = (size >> 20 for size in facts.disk)
        yield warning(
            "disk",
            f"the disk of the state directory has {free} MiB left of {total}",
            "make room: without it no container can be started, for its address must be written down",
        )


def _is_little(free: int, total: int) -> bool:
    return free < LITTLE and free < FEW * total


def kernel_is_as_it_should_be(facts: Facts) -> Iterator[Finding]:
    for fault in facts.faults:
        yield error("kernel", fault, "remove what is in the way; flannelpy tries again every 10 s")


def duties_are_done(facts: Facts) -> Iterator[Finding]:
    for duty, why in facts.failing.items():
        stores = facts.store_error is not None or refusal(facts) is not None
        told = (facts.engine_error is not None and duty in ENGINES_OWN) or (stores and why.startswith(STORES_OWN))
        if not told and why != facts.lease.fence and not facts.unwritten.endswith(why):
            yield error("duty", f"{duty}: {why}", "see the log of flannelpy; it is tried again every few seconds")


def no_address_is_used_twice(facts: Facts) -> Iterator[Finding]:
    for conflict in facts.conflicts:
        says, _, cure = conflict.rpartition(": ")
        yield error("conflict", says, f"{cure}, so that it gets an address of its own")


def nothing_is_left_over(facts: Facts) -> Iterator[Finding]:
    for item in facts.garbage:
        yield warning("garbage", f"{item}, is still held", "it is freed by itself in a minute, or by `flannelpy gc`")
