"""A table that is asked for again and again, and has seldom changed: what is as it was is not taken apart again."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from driver.kernel import wire
from driver.kernel.rawsocket import Part, RawSocket, taken_apart

LASTING_HEADER = b"\xff" * 8 + bytes(4) + b"\xff" * 4  # all but the sequence number


class _Known(NamedTuple):
    """A part as it was last told. `lasting` has a bit for each that says what there is, `told` what these were."""

    size: int
    lasting: int
    told: int
    part: Part


class Dump:
    def __init__(
        self,
        kernel: RawSocket,
        kind: int,
        request: bytes,
        wanted: Callable[[bytes], bool],
        lasting: Callable[[bytes], int] = len,
    ) -> None:
        """`wanted` says which payloads are, and `lasting` how much of one does not change with time alone."""
        self._kernel, self._kind, self._request = kernel, kind, request
        self._wanted, self._lasting = wanted, lasting
        self._known: list[_Known] = []
        self._parts: list[Part] = []
        self._payloads: list[bytes] = []

    def read(self) -> list[bytes]:
        """The wanted payloads; the very list of the last time, where nothing has changed. OSError."""
        parts = self._kernel.parts(self._kind, self._request, self._take)
        del self._known[len(parts) :]
        if list(map(id, parts)) != list(map(id, self._parts)):
            self._parts, self._payloads = parts, [payload for part in parts for payload in part.payloads]
        return self._payloads

    def _take(self, number: int, data: bytes) -> Part:
        """All bytes at once, as numbers: most of what is left of the cost is then the kernel's."""
        told = int.from_bytes(data, "little")
        if number < len(self._known):
            known = self._known[number]
            if known.size == len(data) and known.lasting & told == known.told:
                return known.part
        lasting, part = _number(self._lasting_bits(data)), taken_apart(number, data)
        part = part._replace(payloads=list(filter(self._wanted, part.payloads)))
        self._known[number : number + 1] = [_Known(len(data), lasting, lasting & told, part)]
        return part

    def _lasting_bits(self, data: bytes) -> bytes:
        found = bytearray()
        for *_, payload in wire.messages(data):
            lasts, end = self._lasting(payload), (len(payload) + 3) & ~3
            found += LASTING_HEADER + b"\xff" * lasts + bytes(end - lasts)
        return bytes(found)


@lru_cache(16)
def _number(bits: bytes) -> int:
    """One for all parts whose messages are of one size, as nearly all are."""
    return int.from_bytes(bits, "little")
