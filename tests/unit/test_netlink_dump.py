"""A table that is read again and again, against what it holds."""

from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from driver.kernel import wire
from driver.kernel.dump import Dump
from driver.kernel.rawsocket import Part, RawSocket, taken_apart

AGE = 4  # bytes at the end of each payload
OTHERS = b"two"  # and not wanted

Table = Sequence[Sequence[bytes]]  # what each `recv` gives

payloads = st.sampled_from([b"one", OTHERS, b"longer than these"])
tables = st.lists(st.lists(payloads, max_size=3), min_size=1, max_size=3)


class Told(RawSocket):
    """What the kernel says of a table: each question has a number, and everything grows older."""

    def __init__(self) -> None:
        self._sequence = 0
        self.table: Table = ()

    def parts(self, kind: int, request: bytes, take: Callable[[int, bytes], Part] = taken_apart) -> list[Part]:
        self._sequence += 1
        data = [b"".join(map(self._message, some)) for some in self.table]
        data[-1] += wire.message(wire.NLMSG_DONE, wire.MULTI, bytes(4), self._sequence)
        return [take(number, each) for number, each in enumerate(data)]

    def _message(self, payload: bytes) -> bytes:
        told = payload + self._sequence.to_bytes(AGE, "little")
        return wire.message(wire.NEW_ROUTE, wire.MULTI, told, self._sequence) + bytes(-len(told) % 4)


@given(st.lists(tables, min_size=1, max_size=6))
def test_what_is_read_is_what_there_is_and_the_very_same_if_nothing_but_ages_changed(history: list[Table]) -> None:
    told = Told()
    dump = Dump(told, wire.GET_ROUTE, b"", lambda payload: payload[:3] != OTHERS, lambda payload: len(payload) - AGE)
    for told.table in history:
        found = dump.read()
        assert [payload[:-AGE] for payload in found] == [each for some in told.table for each in some if each != OTHERS]
        assert dump.read() is found
