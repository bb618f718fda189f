"""The forwarders' wire format: what arrives is what was sent, whatever the network does to the datagrams."""

from collections.abc import Iterable
from itertools import groupby

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from driver.forwarder import wire
from driver.forwarder.room import Room
from driver.forwarder.wire import HEADER, OVERHEAD, VERSION, VNET, Packet
from tests.unit.forwarder_packets import ACK, CWR, FIN, PSH, Burst, on_the_wire, tcp, udp

VNI = 0xABCDEF


def sent(burst: Burst, number: int) -> list[bytes]:
    """The datagrams of a burst, in their order."""
    header = wire.header(VNI, burst.vnet)
    if header is not None:
        return [header + burst.packet]
    parts, size = wire.segments(VNI, number, *room_with(burst.vnet + burst.packet))
    made = [bytes(front) + bytes(payload) for front, payload in zip(parts[::2], parts[1::2], strict=True)]
    assert all(len(datagram) == size for datagram in made[:-1])
    assert 0 < len(made[-1]) <= size
    return made


def room_with(content: bytes) -> tuple[Room, int]:
    room = Room(len(content) + 100)
    room.view[: len(content)] = content
    return room, len(content)


def received(datagrams: Iterable[bytes], most: int = 64) -> list[Packet | None]:
    """As a kernel with GRO gives them: neighbours of one size side by side, and then one that may be smaller."""
    batches: list[list[bytes]] = []
    for datagram in datagrams:
        last = batches[-1] if batches else None
        if last and len(last) < most and len(last[-1]) == len(last[0]) >= len(datagram):
            last.append(datagram)
        else:
            batches.append([datagram])
    return [packet for batch in batches for packet in wire.packets(*room_with(b"".join(batch)), len(batch[0]))]


def delivered(packets: Iterable[Packet | None]) -> list[bytes]:
    """What the receiving kernel makes of what it was given."""
    made: list[bytes] = []
    for packet in packets:
        if packet is not None:
            assert packet.vni == VNI
            made += on_the_wire(bytes(packet.parts[0]), b"".join(packet.parts[1:]))
    return made


@st.composite
def bursts(draw: st.DrawFn) -> Burst:
    version, gso_size = draw(st.sampled_from([4, 6])), draw(st.integers(48, 1404))
    payload = draw(st.randoms(use_true_random=False)).randbytes(draw(st.integers(1, 12 * gso_size)))
    ident = draw(st.integers(0, 0xFFFF))
    if draw(st.booleans()):
        return udp(payload, gso_size, version=version, ident=ident)
    flags = draw(st.sampled_from([ACK, ACK | PSH, ACK | FIN | PSH, ACK | CWR, ACK | CWR | FIN]))
    seq = draw(st.integers(0, 0xFFFFFFFF))
    return tcp(payload, gso_size, version=version, ident=ident, seq=seq, flags=flags)


@given(bursts())
def test_a_burst_that_arrives_whole_is_handed_over_in_one_piece_unchanged(burst: Burst) -> None:
    [packet] = received(sent(burst, 7), most=2048)
    assert packet is not None
    assert b"".join(packet.parts[1:]) == burst.packet
    assert on_the_wire(bytes(packet.parts[0]), burst.packet) == on_the_wire(burst.vnet, burst.packet)


@given(st.lists(bursts(), min_size=1, max_size=4), st.data())
def test_every_datagram_that_arrives_is_delivered_once_and_no_other_byte(
    many: list[Burst], data: st.DataObject
) -> None:
    """Loss, duplicates, and the datagrams of several bursts in each other's midst."""
    crossing = [
        (datagram, right)
        for number, burst in enumerate(many)
        for datagram, right in zip(sent(burst, number), on_the_wire(burst.vnet, burst.packet), strict=True)
    ]
    copies = data.draw(st.lists(st.sampled_from([0, 1, 1, 1, 1, 2]), min_size=len(crossing), max_size=len(crossing)))
    arriving = [pair for pair, count in zip(crossing, copies, strict=True) for _ in range(count)]
    for _ in range(data.draw(st.integers(0, 8))):
        if len(arriving) > 1:
            one, other = (data.draw(st.integers(0, len(arriving) - 1)) for _ in range(2))
            arriving[one], arriving[other] = arriving[other], arriving[one]
    packets = received((datagram for datagram, _ in arriving), most=data.draw(st.integers(1, 64)))
    assert None not in packets
    assert delivered(packets) == [right for _, right in arriving]


def test_what_was_split_by_a_loss_is_still_handed_over_in_few_pieces() -> None:
    datagrams = sent(tcp(bytes(40 * 1000), 1000), 1)
    del datagrams[17]
    assert [sum(map(len, packet.parts[2:])) for packet in received(datagrams) if packet] == [17_000, 22_000]


def test_segments_of_two_bursts_are_never_put_together() -> None:
    one, other = sent(tcp(bytes(4000), 1000), 1), sent(tcp(bytes(4000), 1000), 2)
    assert len(received([*one[:2], *other[2:]])) == 2


@given(st.binary(max_size=200), st.integers(1, 120))
@example(HEADER.pack(VERSION, 16, 0, 0x41, 20, 0, 0) + bytes(60), 76)
@example(HEADER.pack(VERSION, 16, 0xFFFF, 0x41, 20, 1, 0) + b"\x45" + bytes(60), 77)
def test_rubbish_is_no_packet_and_breaks_nothing(rubbish: bytes, size: int) -> None:
    for packet in wire.packets(*room_with(rubbish), size):
        if packet is not None:  # chance made a packet; then it is consistent in itself
            assert len(b"".join(packet.parts[1:])) <= len(rubbish)


@given(bursts(), st.data())
def test_a_lying_datagram_is_refused_or_as_long_as_it_says(burst: Burst, data: st.DataObject) -> None:
    datagram = bytearray(data.draw(st.sampled_from(sent(burst, 3)[:3])))
    for _ in range(data.draw(st.integers(1, 4))):
        datagram[data.draw(st.integers(0, min(len(datagram), 90) - 1))] = data.draw(st.integers(0, 255))
    del datagram[data.draw(st.integers(0, len(datagram))) or len(datagram) :]
    for packet in wire.packets(*room_with(bytes(datagram)), max(1, len(datagram))):
        if packet is None:
            continue
        flags, _, _, _, start, offset = VNET.unpack(packet.parts[0])
        whole = b"".join(packet.parts[1:])
        stated = int.from_bytes(whole[2:4]) if whole[0] >> 4 == 4 else 40 + int.from_bytes(whole[4:6])
        assert stated == len(whole) <= len(datagram) - OVERHEAD
        assert not flags or start + offset + 2 <= len(whole)


@pytest.mark.parametrize("change", [{0: 2}, {7: 0x03}, {7: 0x01}, {1: 6}, {2: 0xFF}, {8: 0xFF}, {10: 0, 11: 0}])
def test_a_segment_that_contradicts_its_header_is_refused(change: dict[int, int]) -> None:
    datagram = bytearray(sent(tcp(bytes(4000), 1000), 1)[0])
    for place, value in change.items():
        datagram[place] = value
    assert received([bytes(datagram)]) == [None]


def test_a_packet_without_a_partial_checksum_goes_as_it_is() -> None:
    icmp = tcp(b"x", 100).packet  # what it holds does not matter
    burst = Burst(VNET.pack(2, 0, 0, 0, 9, 9), icmp)  # VIRTIO_NET_HDR_F_DATA_VALID
    [packet] = received(sent(burst, 1))
    assert packet is not None
    assert (bytes(packet.parts[0]), b"".join(packet.parts[1:])) == (bytes(VNET.size), icmp)


def test_more_segments_than_any_kernel_makes_are_refused() -> None:
    burst = tcp(bytes(3000), 1)
    with pytest.raises(wire.Malformed):
        wire.segments(VNI, 1, *room_with(burst.vnet + burst.packet))


def test_batches_are_what_the_tests_take_them_for() -> None:
    sizes = [len(list(group)) for _, group in groupby(sent(tcp(bytes(2500), 1000), 1), key=len)]
    assert sizes == [2, 1]
