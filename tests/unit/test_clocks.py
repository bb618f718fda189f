"""ICMP's timestamps: a clock's distance, whatever the way takes, and across midnight."""

import struct
from ipaddress import IPv4Address

import pytest

from driver import clocks
from driver.clocks import DAY, NONSTANDARD, REPLY, REQUEST, TIMESTAMP, read_answer

HEADER = b"\x45" + bytes(19)
NOON = DAY // 2


def answer(sent: int, came: int, went: int, kind: int = REPLY, identifier: int = 7) -> bytes:
    return HEADER + TIMESTAMP.pack(kind, 0, 0, identifier, 3, sent, came, went)


@pytest.mark.parametrize(
    ("sent", "came", "went", "now", "seconds"),
    [
        (NOON, NOON + 20, NOON + 20, NOON + 40, 0.0),  # the way takes 20 ms in each direction
        (NOON, NOON + 60_020, NOON + 60_020, NOON + 40, 60.0),
        (NOON, NOON - 59_980, NOON - 59_980, NOON + 40, -60.0),
        (DAY - 10, 29_990, 29_990, 10, 29.99),  # midnight comes in between
        (10_000, DAY - 20_000, DAY - 20_000, 10_000, -30.0),
    ],
)
def test_how_far_it_is_ahead(sent: int, came: int, went: int, now: int, seconds: float) -> None:
    told = read_answer(answer(sent, came, went), 7, now)
    assert told is not None
    assert told[0] == 3
    assert told[1] == pytest.approx(seconds, abs=0.011)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEADER + struct.pack("!BBHHH", 0, 0, 0, 7, 3),
        answer(1, 1, 1, kind=REQUEST),
        answer(1, 1, 1, identifier=8),
        answer(1, NONSTANDARD | 1, 1),
    ],
)
def test_what_is_no_answer_to_ours_is_none(data: bytes) -> None:
    assert read_answer(data, 7, 1) is None


def test_nobody_is_asked_for_nothing() -> None:
    try:
        assert clocks.ahead({}, 5) == {}
    except PermissionError:
        pytest.skip("needs CAP_NET_RAW")


def test_this_hosts_own_kernel_answers() -> None:
    """With its clock, which is this one."""
    try:
        told = clocks.ahead({"here": IPv4Address("127.0.0.1")}, 5)
    except PermissionError:
        pytest.skip("needs CAP_NET_RAW")
    assert told == {"here": pytest.approx(0, abs=0.5)}
