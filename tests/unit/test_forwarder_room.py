"""Where a forwarder's packets lie, and how they come there."""

import socket

from driver.backends import BACKENDS
from driver.forwarder.room import KEPT, Room
from driver.forwarder.underlay import Inbox
from driver.forwarder.wire import OVERHEAD


def test_pieces_are_where_they_are_asked_for_whatever_was_asked_before() -> None:
    room = Room(100)
    room.view[:] = bytes(range(100))
    for begin, length, step, first, count in [(2, 5, 10, 0, 3), (2, 5, 10, 1, 1), (2, 5, 10, 4, 4), (3, 10, 10, 0, 2)]:
        wanted = [bytes(range(at, at + length)) for at in range(begin + first * step, 100, step)][:count]
        assert list(map(bytes, room.pieces(begin, length, step, first, count))) == wanted


def test_pieces_show_what_lies_there_now() -> None:
    room = Room(10)
    before = room.pieces(0, 5, 5, 0, 2)
    room.view[:] = b"helloworld"
    assert list(map(bytes, room.pieces(0, 5, 5, 0, 2))) == list(map(bytes, before)) == [b"hello", b"world"]


def test_few_sizes_are_kept() -> None:
    room = Room(100)
    for size in range(1, 100):
        assert len(room.pieces(0, size, size, 0, 1)) == 1
    assert len(room._cut) <= KEPT


def test_what_goes_in_one_call_fits_a_udp_packet_and_one_more_would_not() -> None:
    for mtu, most in [(1456, 44), (1436, 45), (8956, 7)]:
        assert BACKENDS["udp"].most_segments(mtu) == most
        assert (most + 1) * (mtu + OVERHEAD) > 65507
    assert BACKENDS["udp"].most_segments(576) == 64  # the kernel's own limit


def test_neighbours_of_one_sender_and_one_size_come_together_and_all_else_apart() -> None:
    with bound() as here, bound() as one, bound() as other:
        sent = [
            *((one, b"a" * 100), (one, b"b" * 100), (one, b"c" * 40), (other, b"d" * 100), (one, b"e" * 100)),
            *((other, b"f" * 60), (other, b"g" * 80)),
        ]
        for sender, datagram in sent:
            sender.sendto(datagram, here.getsockname())
        inbox = Inbox(here)
        found = [(bytes(inbox.room.view[:end]), size, sender) for end, size, sender in inbox.batches(32)]
        assert found == [
            (b"a" * 100 + b"b" * 100 + b"c" * 40, 100, one.getsockname()),
            *((datagram, len(datagram), sender.getsockname()) for sender, datagram in sent[3:]),
        ]


def bound() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    made.bind(("127.0.0.1", 0))
    return made
