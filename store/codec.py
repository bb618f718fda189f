"""Frozen dataclasses to JSON and back, the same for what the cluster shares and for what this host keeps.

Unknown fields are ignored and missing ones take their defaults, so that hosts of two versions can share a store."""

from collections.abc import Callable, Hashable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from ipaddress import ip_address, ip_interface, ip_network
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec

from store.ip import IPAddress, IPInterface, IPNetwork

R = TypeVar("R")

_encoder = msgspec.json.Encoder(enc_hook=str, order="sorted")  # addresses and prefixes are what it asks about


class BadRecord(Exception):
    """What stands in the store is not what this version can read."""


def encode(record: Any) -> bytes:
    """Compact and with sorted keys: the same record is always the same bytes."""
    return _encoder.encode(record)


def decode(kind: type[R], value: bytes) -> R:
    read: Callable[[Any], R] = _record(cast(Hashable, kind))
    try:
        record = read(msgspec.json.decode(value))
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadRecord(f"not a {kind.__name__}: {value[:80]!r} ({error})") from error
    return record


@cache
def _record(kind: Any) -> Callable[[Any], Any]:
    if not is_dataclass(kind):
        raise TypeError(f"{kind} is no dataclass")
    make = cast(Callable[..., Any], kind)
    hints = get_type_hints(kind)
    readers = {f.name: (_reader(hints[f.name]), f.default is MISSING) for f in fields(kind)}

    def read(shape: Any) -> Any:
        known = {name: reader(shape[name]) for name, (reader, needed) in readers.items() if needed or name in shape}
        return make(**known)

    return read


def _reader(hint: Any) -> Callable[[Any], Any]:
    if hint == IPAddress:
        return ip_address
    if hint == IPNetwork:
        return ip_network
    if hint == IPInterface:
        return ip_interface
    if get_origin(hint) is tuple:
        item = _reader(get_args(hint)[0])
        return lambda values: tuple(item(value) for value in values)
    if is_dataclass(hint):
        return _record(cast(Hashable, hint))
    if get_origin(hint) is UnionType or hint is NoneType:
        some = _reader(_without_none(hint))
        return lambda value: None if value is None else some(value)
    return _exactly(hint)


def _without_none(hint: Any) -> Any:
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    union = kinds[0]
    for kind in kinds[1:]:
        union = union | kind
    return union


def _exactly(kind: type[R]) -> Callable[[Any], R]:
    def read(value: Any) -> R:
        if type(value) is int and kind is float:
            value = float(value)
        if type(value) is not kind:
            raise TypeError(f"{value!r} is no {kind.__name__}")
        return value

    return read
