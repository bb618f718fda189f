"""Echo requests and what comes back: loopback answers for real, the rest is bytes."""

import os
import struct
from ipaddress import ip_address

import pytest

from driver.probe import ECHO, Echo, checksum, ping, read_answer

IP4, IP6 = bytes([0x45]) + bytes(19), bytes(40)


def test_replies_and_what_routers_say() -> None:
    asked4, asked6 = ECHO.pack(8, 0, 0, 7, 3), ECHO.pack(128, 0, 0, 7, 3)
    assert read_answer(4, IP4 + ECHO.pack(0, 0, 0, 7, 3)) == (7, 3, True)
    assert read_answer(6, ECHO.pack(129, 0, 0, 7, 3)) == (7, 3, True)
    assert read_answer(4, IP4 + ECHO.pack(3, 1, 0, 0, 0) + IP4 + asked4) == (7, 3, False)
    assert read_answer(6, ECHO.pack(1, 3, 0, 0, 0) + IP6 + asked6) == (7, 3, False)
    assert read_answer(4, IP4 + ECHO.pack(3, 4, 0, 0, 1400) + IP4 + asked4) == (7, 3, False)
    assert read_answer(6, ECHO.pack(2, 0, 0, 0, 1400) + IP6 + asked6) == (7, 3, False)


@pytest.mark.parametrize("data", [b"", IP4, IP4 + ECHO.pack(3, 1, 0, 0, 0), IP4 + ECHO.pack(8, 0, 0, 7, 3)])
def test_anything_else_is_no_answer(data: bytes) -> None:
    assert read_answer(4, data) is None


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x45\x00\x01", bytes(range(255))])
def test_a_checksum_makes_the_sum_all_ones(data: bytes) -> None:
    padded = data + bytes(len(data) % 2)
    assert checksum(padded + struct.pack("!H", checksum(data))) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_loopback_answers_in_both_families_and_sizes() -> None:
    local4, local6 = ip_address("127.0.0.1"), ip_address("::1")
    found = ping({4: [Echo(local4, local4, size=1500)], 6: [Echo(local6)]}, timeout=2.0)
    assert {key: (answer.by, answer.reply) for key, answer in found.items()} == {4: (local4, True), 6: (local6, True)}
