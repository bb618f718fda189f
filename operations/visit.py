"""A look from inside of a container, by whoever may enter it: the command that an administrator types, for flannelpy
itself does without that right. What it needs to know and what it saw go over the plugin's socket (store/codec.py)."""

from dataclasses import dataclass

from driver.errors import KernelError
from driver.host_network import LinkSeen
from driver.kernel.look import Way, inside
from driver.probe import Answer, Echo, ping_one
from operations.lookup import Lookup, Question, look_up
from store.ip import IPAddress, IPInterface, IPNetwork


@dataclass(frozen=True, slots=True)
class Door:
    """A container to be looked at, and what from there."""

    pid: int | None  # of its first process, None: Docker does not tell
    link: LinkSeen | None  # the host's end of its veth, None: it is gone
    address: IPAddress
    other: IPAddress  # the other end of the trace
    mtu: int  # of the network
    routers: tuple[IPNetwork, ...]  # who may answer in the other end's place that a packet is too large
    leads: bool  # the trace starts here: the other end is pinged
    question: Question | None
    outside: bool = False  # the other end is in no network of ours: the container sends from whatever address it likes


@dataclass(frozen=True, slots=True)
class Inside:
    link: LinkSeen
    addresses: tuple[IPInterface, ...]
    way: Way | None  # to the other end of the trace
    no_way: str  # the kernel's word where there is none

    def has(self, address: IPAddress) -> bool:
        return any(each.ip == address for each in self.addresses)


@dataclass(frozen=True, slots=True)
class Visit:
    inside: Inside | None = None
    unseen: str = ""  # why it was not seen
    end_to_end: Answer | None = None  # None: not asked
    whole: Answer | None = None  # to a packet as large as the container may send
    lookup: Lookup | None = None


@dataclass(frozen=True, slots=True)
class Count:
    reason: str
    packets: int  # that flannelpy's own rules have dropped


@dataclass(frozen=True, slots=True)
class Doors:
    """What somebody is to look at from inside before a trace: A, then B if it is here; nothing if that is in vain."""

    doors: tuple[Door, ...]
    dropped: tuple[Count, ...]  # so far


@dataclass(frozen=True, slots=True)
class Visits:
    seen: tuple[Visit, ...]  # in the order of the doors
    dropped: tuple[Count, ...]  # before that, as they were told with the doors


def visit(door: Door) -> Visit:
    if door.pid is None or door.link is None:
        return Visit(unseen="Docker does not tell its process" if door.link else "its link is gone")
    netns = f"/proc/{door.pid}/ns/net"
    try:
        seen = _inside(netns, door.link, door)
    except KernelError as error:
        return Visit(unseen=str(error))
    if not door.leads:
        return Visit(seen)
    bound = door.address if seen.has(door.address) and not door.outside else None
    small, whole = ping_one(Echo(door.other, bound), netns), None
    if small.reply and not door.outside:  # what passes there is not for us to know
        whole = ping_one(Echo(door.other, bound, min(door.mtu, seen.link.mtu), door.routers), netns)
    return Visit(seen, "", small, whole, look_up(door.question) if door.question else None)


def _inside(netns: str, host_link: LinkSeen, door: Door) -> Inside:
    look, own = inside(netns, host_link)
    with look:
        addresses = tuple(each for index, each in look.addresses() if index == own.index)
        has = any(each.ip == door.address for each in addresses)
        way = look.way(door.other, door.address if has and not door.outside else None)
    return Inside(own, addresses, None, way) if isinstance(way, str) else Inside(own, addresses, way, "")
