"""What one `recv` gave, taken apart."""

from hypothesis import given
from hypothesis import strategies as st

from driver.kernel import wire

few = st.integers(0, 2)  # so that messages are often alike
told = st.tuples(few, few, few, st.binary(max_size=8) | st.just(b"x" * 40))


def packed(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    return wire.message(kind, flags, payload, sequence) + bytes(-len(payload) % 4)


@given(st.lists(told, max_size=20))
def test_messages_come_out_as_they_went_in_however_they_are_mixed(messages: list[tuple[int, int, int, bytes]]) -> None:
    assert list(wire.messages(b"".join(packed(*each) for each in messages))) == messages


@given(st.lists(told, max_size=3), told)
def test_the_last_message_may_lack_its_padding(
    messages: list[tuple[int, int, int, bytes]], last: tuple[int, int, int, bytes]
) -> None:
    data = b"".join(packed(*each) for each in messages)
    kind, flags, sequence, payload = last
    assert list(wire.messages(data + wire.message(kind, flags, payload, sequence))) == [*messages, last]


def test_messages_alike_but_for_their_payloads_come_together() -> None:
    alike = [(24, 2, 7, bytes([number]) * 8) for number in range(9)]
    data = b"".join(packed(*each) for each in [(24, 2, 7, b"longer" * 4), *alike, (3, 2, 7, bytes(4))])
    assert [len(payloads) for *_, payloads in wire.runs(data)] == [1, 9, 1]
