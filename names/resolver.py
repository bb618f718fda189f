"""From the bytes of a query to the bytes of its answer."""

from names import wire
from names.wire import REFUSED
from names.zone import Zone


def answer(zone: Zone, message: bytes, source: str, *, datagram: bool) -> bytes | None:
    """None if nothing must be sent. `source` is the address that asks: whoever is no container of ours is refused."""
    query = wire.parse(message)
    if query is None:
        return None
    largest = (query.udp_size or wire.PLAIN_SIZE) if datagram else wire.LARGEST
    if query.error:
        return wire.pack(message, query, query.error, (), largest)
    networks = zone.networks_of(source)
    if networks is None:
        return wire.pack(message, query, REFUSED, (), largest)
    code, records = zone.answer(networks, query.name, query.kind)
    return wire.pack(message, query, code, records, largest)
