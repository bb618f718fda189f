"""The only file that speaks nftables: puts our table there, and sees to it that it stays."""

import errno
import json
import logging
import signal
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from driver.command import Done, call
from driver.errors import KernelError
from driver.filter import ALL, CHAIN_NAMES, TABLE, Member, Sets, again, changes, whole
from driver.kernel import old_tables, wire
from driver.kernel.rawsocket import BUFFER

log = logging.getLogger(__name__)

TIMEOUT = 10.0
OLD_TABLES = 0.25  # seconds between two looks at the old tables, of which the kernel tells nothing
NO_OLD_TABLES = 1.0  # seconds until the next look where there are none, as on most hosts
NETLINK_NETFILTER = 12
NEW_GENERATION, GET_GENERATION = 10 << 8 | 15, 10 << 8 | 16  # NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN and GETGEN
NFTABLES = 1 << 6  # the multicast group NFNLGRP_NFTABLES
REQUEST = 1  # NLM_F_REQUEST
HEADERS = 20  # bytes of nlmsghdr and nfgenmsg
ATTRIBUTE = 4  # bytes before an attribute's value


class Nft:
    """For one thread. Remembers what it put there, and how the kernel shows that."""

    def __init__(self) -> None:
        self._sets: Sets | None = None
        self._listing: str | None = None  # how the kernel shows the table; None: not looked since the last change
        self._generation = 0

    def settle(self, wanted: Sets) -> bool:
        """Make the table exactly this; whether it was changed. Nothing is run where neither that nor any rule of this
        host has changed.

        A listing takes long where there are thousands of peers, so none follows a change of ours that was the only
        one: the next call makes it."""
        generation = read_generation()
        quiet = generation == self._generation
        if quiet and wanted == self._sets:
            if self._listing is None:
                self._look(generation)
            return False
        intact = self._sets is not None and (quiet or _listing() == self._listing)
        text = _put(changes(self._sets, wanted)) if self._sets is not None and intact else _put_anew(wanted)
        self._sets, self._generation = wanted, read_generation()
        if text:
            log.info("filter changed", extra={"lines": text.count("\n"), "anew": not intact})
            self._listing = None
            if self._generation != generation + 1:
                self._sets = None  # others changed rules meanwhile, maybe these: the next call puts all there again
        return bool(text)

    def _look(self, generation: int) -> None:
        """How the kernel shows what was put there, if nobody has changed it since."""
        listing = _listing()
        if read_generation() == generation:
            self._listing = listing


class RuleNotices:
    """What the kernel tells when anybody changes rules: those of nftables, and of an iptables that writes such. How
    large the old iptables' tables are is asked meanwhile."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
            self._socket.bind((0, NFTABLES))
        except OSError as error:
            raise KernelError(f"no notices of rules from the kernel: {error}") from error
        self._old_tables: dict[int, bytes] = {}
        self._old_tables_changed()

    def wait(self) -> bool:
        """Block until the kernel tells something, or a look is due; whether there was a change, and it has ended.
        KernelError when closed."""
        try:
            data = self._socket.recv(BUFFER)
        except TimeoutError:
            return self._old_tables_changed()
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return True  # some of it is lost
            raise KernelError(f"no more notices of rules from the kernel: {error}") from error
        return any(kind == NEW_GENERATION for kind, *_ in wire.messages(data))

    def _old_tables_changed(self) -> bool:
        before, self._old_tables = self._old_tables, old_tables.sizes()
        self._socket.settimeout(OLD_TABLES if self._old_tables else NO_OLD_TABLES)
        return before != self._old_tables

    def close(self) -> None:
        self._socket.close()


def read_generation() -> int:
    """The number of the ruleset in this network namespace: the kernel counts every change that anybody makes."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
            kernel.settimeout(TIMEOUT)
            kernel.send(struct.pack("=IHHIIBBH", HEADERS, GET_GENERATION, REQUEST, 0, 0, socket.AF_UNSPEC, 0, 0))
            answer = kernel.recv(4096)
    except OSError as error:
        raise KernelError(f"reading the number of nftables' ruleset: {error.strerror or error}") from error
    kind = struct.unpack_from("=H", answer, 4)[0]
    if kind >> 8 != GET_GENERATION >> 8:
        raise KernelError("this kernel has no nftables (CONFIG_NF_TABLES)")
    return int(struct.unpack_from(">I", answer, HEADERS + ATTRIBUTE)[0])


def read_members() -> frozenset[Member]:
    """Who may send to our tunnels as the kernel has it; nobody where the table is not there."""
    found = _read_table().sets
    elements = (element.split(" . ") for name in ("members4", "members6") for element in found.get(name, ()))
    return frozenset(Member(int(port), int(vni), ip_address(address)) for port, vni, address in elements)


def read_ruleset() -> Any:
    """All rules of this host, of others too, as libnftables-json(5) has them. KernelError."""
    done = _call("-j", "list", "ruleset")
    if done.returncode != 0:
        raise KernelError(f"nft list ruleset: {_reason(done)}")
    return json.loads(done.stdout)


def read_dropped() -> dict[str, int]:
    """How many packets our own table has dropped, by reason (driver/filter.py, COUNTERS); nothing without a table."""
    done = _call("-j", "list", "counters", "table", *TABLE.split())
    parts = json.loads(done.stdout)["nftables"] if done.returncode == 0 else ()
    return {part["counter"]["name"]: part["counter"]["packets"] for part in parts if "counter" in part}


@dataclass(frozen=True, slots=True)
class _Table:
    """Our table as the kernel has it: its sets and maps, elements worded as in driver/filter.py, and its chains."""

    sets: Sets
    chains: frozenset[str]


def _read_table() -> _Table:
    done = _call("-j", "-n", "list", "table", *TABLE.split())
    parts = json.loads(done.stdout)["nftables"] if done.returncode == 0 else ()
    found = [part.get("set") or part["map"] for part in parts if part.keys() & {"set", "map"}]
    return _Table(
        {one["name"]: frozenset(_element(element, one["type"]) for element in one.get("elem", ())) for one in found},
        frozenset(part["chain"]["name"] for part in parts if "chain" in part),
    )


def _element(found: Any, kind: object = None) -> str:
    """An element as nft reads it, from how libnftables-json(5) has it."""
    match found:
        case {"concat": parts}:
            return " . ".join(map(_element, parts))
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case [key, value]:
            return f"{_element(key)} : {_element(value)}"
    return f'"{found}"' if kind == "ifname" else str(found)


def _put_anew(wanted: Sets) -> str:
    """Make the table exactly this, whatever it is; the transaction that did it."""
    found = _read_table()
    if found.sets.keys() == set(ALL) and found.chains == CHAIN_NAMES:
        try:
            return _put(again(found.sets, wanted))
        except KernelError as error:  # sets of other types, or chains elsewhere: another version's
            log.info("filter of another shape", extra={"why": error})
    return _put(whole(wanted))


def _put(text: str) -> str:
    if text:
        _run("-f", "-", stdin=text)
    return text


def _listing() -> str:
    """Empty where the table is not there."""
    return _call("-s", "list", "table", *TABLE.split()).stdout


def _run(*arguments: str, stdin: str) -> None:
    done = _call(*arguments, stdin=stdin)
    if done.returncode != 0:
        raise KernelError(f"nft {' '.join(arguments)}: {_reason(done)}")


def _reason(done: Done) -> str:
    if done.returncode < 0:
        what = f"it was ended by {signal.Signals(-done.returncode).name}"
        return f"{what}: has a newer nft written rules on this host? Update the package nftables to that version"
    return done.stderr.strip() or str(done.returncode)


def _call(*arguments: str, stdin: str = "") -> Done:
    return call(["nft", *arguments], package="nftables", timeout=TIMEOUT, stdin=stdin)
