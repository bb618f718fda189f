"""What flannelpy and a forwarder say to each other, over the forwarder's unix socket: a JSON line, answered by one.

A forwarder outlives the flannelpy that started it, also when that is replaced by a newer one. So each answer has the
version of all this. `Stop` and the answer's version are understood by every version."""

import msgspec

VERSION = 2


class Link(msgspec.Struct, frozen=True):
    """A network that the forwarder carries."""

    dev: str
    vni: int


class Peer(msgspec.Struct, frozen=True):
    """Another host of a network: where it is reached, which prefixes it has, and from where it may send, too."""

    host: str
    address: str
    blocks: tuple[str, ...]
    sources: tuple[str, ...] = ()


class Ask(msgspec.Struct, tag="ask"):
    """Everything as it is."""


class Count(msgspec.Struct, tag="count"):
    """The counters."""


class Stop(msgspec.Struct, tag="stop"):
    """End; the devices stay. Once this is answered the socket's file is gone, and its name can be used anew."""


class Attach(msgspec.Struct, tag="attach"):
    link: Link


class Detach(msgspec.Struct, tag="detach"):
    dev: str


class PutPeer(msgspec.Struct, tag="put-peer"):
    dev: str
    peer: Peer


class DropPeer(msgspec.Struct, tag="drop-peer"):
    dev: str
    host: str


Request = Ask | Count | Stop | Attach | Detach | PutPeer | DropPeer


class Network(msgspec.Struct, frozen=True):
    link: Link
    peers: tuple[Peer, ...]


class Answer(msgspec.Struct, frozen=True):
    version: int = VERSION
    error: str | None = None  # why it was not done
    local: str = ""  # the address of its UDP socket
    networks: tuple[Network, ...] = ()
    counters: dict[str, int] = {}
