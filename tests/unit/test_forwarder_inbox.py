"""What several hosts send at once, as it comes out of a real socket."""

import socket
import struct
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack

from hypothesis import given
from hypothesis import strategies as st

from driver.forwarder.underlay import UDP_SEGMENT, Address, Inbox, open_socket

SENDERS = 3

# Who sends how many datagrams of which size in one call, and how much shorter the last one is.
calls = st.lists(
    st.tuples(
        st.integers(0, SENDERS - 1), st.integers(1, 16), st.sampled_from([300, 300, 700, 1444]), st.integers(0, 3)
    ),
    max_size=24,
)


@given(calls)
def test_what_several_hosts_send_at_once_comes_in_batches_of_one_host_and_size(
    calls: list[tuple[int, int, int, int]],
) -> None:
    with ExitStack() as stack:
        udp = stack.enter_context(open_socket("127.0.0.1", 0))
        senders = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(SENDERS)]
        for sender in senders:
            sender.connect(udp.getsockname())
        sent: dict[Address, list[bytes]] = defaultdict(list)
        for number, (who, count, size, less) in enumerate(calls):
            datagrams = [bytes([number, place]) * (size // 2) for place in range(count)]
            datagrams[-1] = datagrams[-1][: size - less]
            segment = [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))] if count > 1 else []
            senders[who].sendmsg(datagrams, segment)
            sent[senders[who].getsockname()] += datagrams
        inbox, received = Inbox(udp), defaultdict[Address, list[bytes]](list)
        for end, size, origin in inbox.batches(2 * len(calls) + 1):
            received[origin] += cut(inbox.room.view[:end], size)
    assert received == sent
    assert inbox.malformed == 0


def cut(batch: memoryview, size: int) -> Iterator[bytes]:
    for at in range(0, len(batch), size):
        yield bytes(batch[at : at + size])
