"""A netlink socket for many messages at once: whole tables are read, and many changes sent, in few system calls."""

import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import NamedTuple

from driver.kernel import wire
from driver.kernel.namespaces import within

SOL_NETLINK, STRICT_CHECK = 270, 12  # NETLINK_GET_STRICT_CHK: the kernel filters dumps, since Linux 4.20
RECEIVE_BUFFER_FORCE = 33  # SO_RCVBUFFORCE: beyond what unprivileged programs may have
ROOM = 1 << 20  # bytes: each of AT_ONCE changes may be refused
BUFFER = 1 << 16  # bytes of one answer: the kernel fills up to 32 KiB of a dump at once
AT_ONCE = 256  # changes in one message to the kernel
ANSWER = 10.0  # seconds
ATTEMPTS = 5


def open_socket(netns: str | None, groups: int = 0, protocol: int = socket.NETLINK_ROUTE) -> socket.socket:
    """A netlink socket, in the named network namespace if one is given."""
    made = within(netns, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol))
    made.bind((0, groups))
    return made


def enlarge(made: socket.socket, room: int = ROOM) -> None:
    """Make room for what the kernel says at once, in bytes."""
    made.setsockopt(socket.SOL_SOCKET, RECEIVE_BUFFER_FORCE, room)


class Part(NamedTuple):
    """Of a table: what one `recv` gave."""

    payloads: list[bytes]
    whole: bool  # nothing changed while the kernel told of it
    last: bool


def taken_apart(_number: int, data: bytes) -> Part:
    found: list[bytes] = []
    whole = True
    for answered, flags, _, payloads in wire.runs(data):
        if flags & wire.DUMP_INTERRUPTED:
            whole = False
        if answered in (wire.NLMSG_DONE, wire.NLMSG_ERROR):
            _insist(_code(payloads[0]))
            return Part(found, whole, last=True)
        found += payloads
    return Part(found, whole, last=False)


class RawSocket:
    """For one thread."""

    def __init__(self, netns: str | None = None, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = open_socket(netns, protocol=protocol)
        self._socket.settimeout(ANSWER)
        self._sequence = 0
        enlarge(self._socket)
        with suppress(OSError):  # an old kernel sends whole tables, and who asks sorts out what it wants
            self._socket.setsockopt(SOL_NETLINK, STRICT_CHECK, 1)

    def close(self) -> None:
        self._socket.close()

    def dump(self, kind: int, request: bytes) -> list[bytes]:
        """The payloads of a table. `request` filters, where the kernel knows how to. OSError."""
        return [payload for part in self.parts(kind, request) for payload in part.payloads]

    def parts(self, kind: int, request: bytes, take: Callable[[int, bytes], Part] = taken_apart) -> list[Part]:
        """A table as it comes, and as it is taken apart: `take` also hears the number of the part.

        One that changes all the while is read as well as can be: whoever compares looks again soon."""
        for _ in range(ATTEMPTS):
            found = list(self._parts(kind, request, take))
            if all(part.whole for part in found):
                break
        return found

    def _parts(self, kind: int, request: bytes, take: Callable[[int, bytes], Part]) -> Iterator[Part]:
        self._sequence += 1
        self._socket.send(wire.message(kind, wire.REQUEST | wire.DUMP, request, self._sequence))
        for number in count():
            part = take(number, self._answer())
            yield part
            if part.last:
                return

    def _answer(self) -> bytes:
        """What comes next, and is not left over from a question that was given up."""
        while True:
            data = self._socket.recv(BUFFER)
            if data[8:12] == wire.U32.pack(self._sequence):
                return data

    def ask(self, kind: int, request: bytes) -> bytes:
        """The payload of the one answer to a question about one thing. OSError with the kernel's own no."""
        self._sequence += 1
        self._socket.send(wire.message(kind, wire.REQUEST, request, self._sequence))
        while True:
            for answered, _, sequence, payload in wire.messages(self._socket.recv(BUFFER)):
                if sequence != self._sequence:
                    continue  # left over from a question that was given up
                if answered == wire.NLMSG_ERROR:
                    _insist(_code(payload))
                return payload

    def change(self, requests: Sequence[tuple[int, int, bytes]]) -> dict[int, int]:
        """Send (type, flags, payload) in their order; what the kernel refused, as {position: errno}."""
        refused: dict[int, int] = {}
        for start in range(0, len(requests), AT_ONCE):
            some = requests[start : start + AT_ONCE]
            first = self._sequence + 1
            self._sequence += len(some)
            # The kernel answers a refusal in any case, and what went well only where asked: for the last of them.
            packed = [
                wire.message(kind, flags | wire.REQUEST | (wire.ACK if number == len(some) - 1 else 0), payload, at)
                for number, (at, (kind, flags, payload)) in enumerate(zip(range(first, 1 << 32), some, strict=False))
            ]
            self._socket.send(b"".join(packed))
            for sequence, code in self._answers(first, self._sequence):
                refused[start + sequence - first] = code
        return refused

    def _answers(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        while True:
            for kind, _, sequence, payload in wire.messages(self._socket.recv(BUFFER)):
                if kind != wire.NLMSG_ERROR or not first <= sequence <= last:
                    continue
                if code := _code(payload):
                    yield sequence, code
                if sequence == last:
                    return


def _code(payload: bytes) -> int:
    """The errno in an NLMSG_ERROR or NLMSG_DONE, 0 if all went well."""
    return -int(wire.S32.unpack_from(payload)[0]) if len(payload) >= wire.S32.size else 0


def _insist(code: int) -> None:
    if code:
        raise OSError(code, os.strerror(code))


def words(code: int) -> str:
    return f"the kernel says {os.strerror(code)} ({errno.errorcode.get(code, code)})"
