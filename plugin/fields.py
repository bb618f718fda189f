"""One field of a request: its text to a value, or a sentence that names the field and quotes the text."""

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import TypeVar

from plugin import addresses
from plugin.body import Malformed, shown
from store.ip import IPAddress, IPInterface, IPNetwork

Parsed = TypeVar("Parsed", bound=IPAddress | IPInterface | IPNetwork)

_ID = re.compile(r"[0-9a-z]{1,64}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def identifier(name: str, text: str) -> str:
    if not _ID.fullmatch(text):
        raise Malformed(f"{name} {shown(text)} is not an id of 1 to 64 digits and small letters")
    return text


def pool(name: str, text: str, version: int) -> IPNetwork:
    return _usable(name, text, addresses.network, version)


def interface(name: str, text: str, version: int) -> IPInterface:
    return _usable(name, text, addresses.interface, version)


def address(name: str, text: str, version: int) -> IPAddress:
    return _usable(name, text, addresses.address, version)


def host_address(name: str, text: str) -> IPAddress:
    """An address of the host, loopback and "every address" among them."""
    try:
        return ip_address(text)
    except ValueError:
        raise Malformed(f"{name} {shown(text)} is not an IP address") from None


def inside(outer: IPNetwork, name: str, text: str) -> IPInterface:
    """An address with its prefix length, which need not be the pool's."""
    found = interface(name, text, outer.version)
    if found.ip not in outer:
        raise Malformed(f"{name} {shown(text)} is not inside the pool {outer}")
    return found


def mac(name: str, text: str) -> str:
    found = text.lower()
    if not _MAC.fullmatch(found):
        raise Malformed(f"{name} {shown(text)} is not a MAC address such as 02:42:0a:01:00:05")
    if int(found[:2], 16) & 1 or found == "00:00:00:00:00:00":
        raise Malformed(f"{name} {shown(text)} is not the address of one interface (unicast)")
    return found


def _usable(name: str, text: str, parse: Callable[[str], Parsed], version: int) -> Parsed:
    try:
        found = parse(text)
        addresses.refuse_special(found)
    except ValueError as error:
        raise Malformed(f"{name} {shown(text)} {error}") from None
    if found.version != version:
        raise Malformed(f"{name} {shown(text)} is IPv{found.version} where IPv{version} belongs")
    return found
