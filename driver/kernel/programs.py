"""The programs on what links receive: how they are put there, found and taken away.

Each is a classifier of ours, known by its name, in the `clsact` qdisc of its link. Others may have classifiers of
theirs in it: these come before ours, and stay. So does a qdisc that has become empty.

Layouts: linux/rtnetlink.h (tcmsg), linux/pkt_sched.h and linux/pkt_cls.h (TCA_*)."""

import errno
import os
import socket
import struct
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property, partial

from driver.errors import KernelError
from driver.kernel import bpf, wire
from driver.kernel.rawsocket import BUFFER, RawSocket, open_socket, words
from driver.state import FastPath

NEW_QDISC, DEL_QDISC, GET_QDISC = 36, 37, 38
NEW_FILTER, DEL_FILTER, GET_FILTER = 44, 45, 46
TCMSG = struct.Struct("=BxxxiIII")  # family, ifindex, handle, parent, info
KIND, OPTIONS = 1, 2
PROGRAM_FD, PROGRAM_NAME, FLAGS, CARD_FLAGS = 6, 7, 8, 9
DIRECT_ACTION, NOT_ON_THE_CARD = 1, 1
CLSACT_HANDLE, CLSACT_PARENT, INGRESS = 0xFFFF0000, 0xFFFFFFF1, 0xFFFFFFF2
PRIORITY = 0xFF00  # after everybody's: what is redirected is seen by no classifier behind
NUMBER = 1  # of our classifier among those of its priority
INFO = PRIORITY << 16 | socket.htons(3)  # of all protocols
GONE = (errno.ENOENT, errno.ENODEV, errno.EINVAL)  # the classifier, the link or the qdisc
PREFIX = "flannelpy "  # of names, before the digest
LOADED = 32  # programs
CHANGES = (NEW_QDISC, DEL_QDISC, NEW_FILTER, DEL_FILTER)
GROUP = 0x8  # RTMGRP_TC: who listens to it hears of them


class Programs:
    """For one thread."""

    def __init__(self, netns: str | None = None) -> None:
        self._netns = netns
        self._found: dict[int, str] = {}  # digests by link, of which no change was told since they were read
        self._files: dict[bytes, int] = {}  # loaded programs

    @cached_property
    def _socket(self) -> RawSocket:
        return RawSocket(self._netns)

    @cached_property
    def _notices(self) -> socket.socket:
        return open_socket(self._netns, GROUP)

    def close(self) -> None:
        for opened in ("_socket", "_notices"):
            if opened in self.__dict__:
                getattr(self, opened).close()
        self._unload()

    def read(self, names: Mapping[int, str]) -> Iterator[FastPath]:
        """Those on any link, whoever's it is; `names` are all links by index.

        One question for all links, and one for each link that may have one, and of which the kernel told a change:
        many containers are many questions."""
        self._forget_changed()
        candidates = self._links_with_classifiers() & names.keys()
        self._found = {index: found for index, found in self._found.items() if index in candidates}
        for index in sorted(candidates):
            digest = self._digest(index)
            if digest is not None:
                yield FastPath(names[index], digest)

    def _links_with_classifiers(self) -> set[int]:
        found = set()
        for raw in self._socket.dump(GET_QDISC, TCMSG.pack(0, 0, 0, 0, 0)):
            _, index, handle, _, _ = TCMSG.unpack_from(raw)
            if handle == CLSACT_HANDLE:
                found.add(index)
        return found

    def _digest(self, index: int) -> str | None:
        if index in self._found:
            return self._found[index]
        filters = self._socket.dump(GET_FILTER, TCMSG.pack(0, index, 0, INGRESS, 0))
        digest = next(filter(None, map(_digest_of, filters)), None)
        if digest is not None:
            self._found[index] = digest
        return digest

    def _forget_changed(self) -> None:
        told = partial(self._notices.recv, BUFFER, socket.MSG_DONTWAIT)
        while True:
            try:
                for kind, _, _, payload in wire.messages(told()):
                    if kind in CHANGES:
                        self._found.pop(link_of(payload), None)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._found.clear()  # too much at once: some of it is lost

    def put(self, o: FastPath, index: int) -> None:
        """In place of an earlier one, without a moment between them."""
        options = wire.attribute(PROGRAM_FD, wire.U32.pack(self._file(o.code)))
        options += wire.attribute(PROGRAM_NAME, f"{PREFIX}{o.digest}\0".encode())
        options += wire.attribute(FLAGS, wire.U32.pack(DIRECT_ACTION))
        options += wire.attribute(CARD_FLAGS, wire.U32.pack(NOT_ON_THE_CARD))
        classifier = TCMSG.pack(0, index, NUMBER, INGRESS, INFO) + wire.attribute(KIND, b"bpf\0")
        classifier += wire.attribute(OPTIONS, options)
        qdisc = TCMSG.pack(0, index, CLSACT_HANDLE, CLSACT_PARENT, 0) + wire.attribute(KIND, b"clsact\0")
        # The qdisc may be there, or one by which its owner has classifiers for what is received alone.
        self._change(o, (NEW_QDISC, wire.CREATE, qdisc), (NEW_FILTER, wire.CREATE | wire.REPLACE, classifier))

    def drop(self, o: FastPath, index: int) -> None:
        classifier = TCMSG.pack(0, index, NUMBER, INGRESS, INFO) + wire.attribute(KIND, b"bpf\0")
        self._change(o, (DEL_FILTER, 0, classifier), fine=GONE)

    def _file(self, code: bytes) -> int:
        """Of the loaded program: containers of one network have the same."""
        if code not in self._files:
            if len(self._files) >= LOADED:
                self._unload()
            self._files[code] = bpf.load(code, "flannelpy")
        return self._files[code]

    def _unload(self) -> None:
        """Links keep what they have."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def _change(self, o: FastPath, *requests: tuple[int, int, bytes], fine: Collection[int] = ()) -> None:
        """KernelError with what the last of them met."""
        code = self._socket.change(requests).get(len(requests) - 1)
        if code and code not in fine:
            raise KernelError(f"{o}: {words(code)}")


def link_of(change: bytes) -> int:
    """Of which link's qdiscs or classifiers it tells."""
    _, index, _, _, _ = TCMSG.unpack_from(change)
    return int(index)


def _digest_of(classifier: bytes) -> str | None:
    """None if it is not ours."""
    options = wire.attributes(classifier, TCMSG.size).get(OPTIONS, b"")
    name = wire.attributes(options, 0).get(PROGRAM_NAME, b"").rstrip(b"\0").decode(errors="replace")
    return name.removeprefix(PREFIX) if name.startswith(PREFIX) else None
