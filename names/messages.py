"""What the agent tells the resolver's process: one line of JSON for each change."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TypeVar

import msgspec

Key = str  # of an endpoint's record in the store
V = TypeVar("V")


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """An endpoint, as far as names go. A network is known by its first pool."""

    network: str  # pool
    label: str  # what Docker calls the network
    name: str  # the container's own, for reverse look-ups
    names: tuple[str, ...]  # all that Docker would answer to, without the network
    addresses: tuple[str, ...]
    silent: bool = False  # its host: others of the name come first


class Update(msgspec.Struct, frozen=True, omit_defaults=True):
    """Only what differs from what was told before; None stands for something that is gone."""

    members: dict[Key, Member | None] = {}
    askers: dict[str, tuple[str, ...] | None] = {}  # address of a container here: the networks it is in
    prefixes: dict[str, tuple[str, ...] | None] = {}  # network: all its pools


MEMBERS_AT_ONCE = 200  # a longer line would hold up answers


def changed(old: Mapping[str, V | None], new: Mapping[str, V | None]) -> dict[str, V | None]:
    """What makes the new one of the old one."""
    gone: dict[str, V | None] = {key: None for key in old if key not in new}
    return gone | {key: value for key, value in new.items() if old.get(key) != value}


def lines(update: Update) -> Iterator[bytes]:
    """Of bearable length."""
    if update.askers or update.prefixes:
        yield encode(Update(askers=update.askers, prefixes=update.prefixes))
    members = iter(update.members.items())
    while some := dict(islice(members, MEMBERS_AT_ONCE)):
        yield encode(Update(members=some))


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Update)


def encode(update: Update) -> bytes:
    return _encoder.encode(update) + b"\n"


def decode(line: bytes) -> Update:
    return _decoder.decode(line)
