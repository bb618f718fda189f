"""The old tables of iptables, whose changes the kernel tells nobody of: how large they are costs it nothing to say."""

import ctypes
import socket
from pathlib import Path

# The names of those of the old tables that are in use.
NAMES = {4: "/proc/thread-self/net/ip_tables_names", 6: "/proc/thread-self/net/ip6_tables_names"}
FAMILIES = {4: (socket.AF_INET, socket.IPPROTO_IP), 6: (socket.AF_INET6, socket.IPPROTO_IPV6)}
GET_INFO = 64  # IPT_SO_GET_INFO, IP6T_SO_GET_INFO
FILTER = b"filter"
INFO_SIZE = 84  # bytes: a name, and then in numbers which hooks there are, where they begin, how many rules, how large


def has_filter(version: int) -> bool:
    """Whether the old table `filter` is there. To ask for anything of one that is not makes it."""
    try:
        return FILTER in Path(NAMES[version]).read_bytes().split()
    except OSError:
        return False


def sizes() -> dict[int, bytes]:
    """What the kernel says of the old tables `filter`, by the version of IP. A rule that comes or goes changes it, one
    that takes the place of another need not. Empty where the kernel does not say."""
    return {version: _info(version) for version in FAMILIES if has_filter(version)}


def _info(version: int) -> bytes:
    """The question and its answer have one buffer, which Python's own getsockopt cannot hand over."""
    family, level = FAMILIES[version]
    info, length = ctypes.create_string_buffer(FILTER, INFO_SIZE), ctypes.c_uint32(INFO_SIZE)
    libc = ctypes.CDLL(None)
    with socket.socket(family, socket.SOCK_DGRAM) as kernel:
        told = libc.getsockopt(kernel.fileno(), level, GET_INFO, info, ctypes.byref(length)) == 0
    return info.raw if told else b""
