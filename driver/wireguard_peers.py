"""What is known of the peers of a WireGuard device, and the words that tell `wg` of a change. Nothing is done here."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from driver.entries import AllowedIp, Key, WireguardPeer
from driver.plan import Drop, Operation, Put
from store.ip import IPNetwork

Owners = Mapping[Key, AllowedIp]  # by what is one peer's alone


@dataclass(slots=True)
class Peers:
    """Of one device, by their public keys. WireGuard knows one peer for a prefix, and so do `owners`."""

    seen: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)  # of these, those with a session that this process found at its start
    owners: dict[Key, AllowedIp] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)  # the endpoint that each was last given

    def look(self) -> None:
        """All are about to be read."""
        self.seen.clear()
        self.found.clear()
        self.owners.clear()

    def read(self, peer: WireguardPeer, allowed: Collection[AllowedIp], *, live: bool) -> WireguardPeer:
        """Note one as it is; what of it is to be compared with how it should be. `live`: its packets come from where
        its endpoint is now. If that is elsewhere, it has moved by itself, and WireGuard has followed it: that is as it
        should be."""
        key = peer.public_key
        self.seen.add(key)
        for o in allowed:
            self.owners[o.key] = o
        met, told = key in self.told, self.told.setdefault(key, peer.endpoint)
        if not live:
            return peer
        if not met:
            self.found.add(key)
        return peer if told == peer.endpoint else replace(peer, endpoint=told)

    def words(self, operations: Iterable[Operation]) -> list[str]:
        """What to tell `wg set`, for operations of one kind: empty if there is nothing to do.

        Prefixes are all of a peer's, because not every `wg` can add or remove one. Its session, and all other peers,
        go on."""
        words: list[str] = []
        touched: dict[str, list[IPNetwork]] = {}
        for operation in operations:
            match operation:
                case Put(WireguardPeer() as o):
                    words += self._introduction(o)
                case Drop(WireguardPeer() as o):
                    words += ["peer", o.public_key, "remove"]
                case Put(AllowedIp() as o):
                    touched[o.public_key] = []
                case Drop(AllowedIp() as o) if self.owners.get(o.key) == o:
                    touched[o.public_key] = []
        if touched:
            for o in _owners_after(self.owners, operations).values():
                if o.public_key in touched:
                    touched[o.public_key].append(o.destination)
        for key, prefixes in touched.items():
            words += ["peer", key, "allowed-ips", ",".join(map(str, prefixes))]
        return words

    def done(self, operations: Iterable[Operation]) -> None:
        """Note what `wg` was told."""
        for operation in operations:
            match operation:
                case Put(WireguardPeer() as o):
                    self.seen.add(o.public_key)
                    self.told[o.public_key] = o.endpoint
                case Drop(WireguardPeer() as o):
                    self.seen.discard(o.public_key)
                    self.found.discard(o.public_key)
                    self.told.pop(o.public_key, None)
        self.owners = _owners_after(self.owners, operations)

    def _introduction(self, o: WireguardPeer) -> Iterator[str]:
        """A peer with a session that this process found at its start stays where it is: it may have moved there.

        One that is made is greeted: the first keepalive asks for a session at once. The peer may have an old one,
        which ended here with an earlier device, and would go on sending into it for 15 s."""
        if o.public_key not in self.found:
            yield from ("peer", o.public_key, "endpoint", o.endpoint)
            if o.public_key not in self.seen:
                yield from ("persistent-keepalive", "1")
        yield from ("peer", o.public_key, "persistent-keepalive", str(o.keepalive))


def _owners_after(owners: Owners, operations: Iterable[Operation]) -> dict[Key, AllowedIp]:
    """A prefix that is given to a peer is taken from whoever has it."""
    after = dict(owners)
    for operation in operations:
        match operation:
            case Put(AllowedIp() as o):
                after[o.key] = o
            case Drop(AllowedIp() as o) if after.get(o.key) == o:
                del after[o.key]
    return after
