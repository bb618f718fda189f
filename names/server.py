"""The resolver's own process: sockets on an address of each family, and the agent's updates on standard input. One
thread, so that nothing needs a lock; apart from the agent, so that neither waits for the other's turn in Python.

It ends with the agent, when standard input ends. It is nobody's as soon as its sockets are there."""

import asyncio
import gc
import logging
import os
import signal
import socket
import struct
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import NamedTuple

from names import messages, resolver
from names.rights import give_up_root
from names.zone import Zone

log = logging.getLogger(__name__)

AT_ONCE = 64  # datagrams read before anything else has its turn
LINE_LIMIT = 16 << 20  # bytes of one update
TCP_AT_ONCE, TCP_OF_ONE = 128, 8  # connections; of one address
TCP_PATIENCE = 5.0  # seconds for one query over TCP
BUFFER = 1 << 20  # bytes of datagrams that wait
LONGEST_DATAGRAM = 65_535


class Family(NamedTuple):
    """The numbers of one IP version's socket options (linux/in.h, linux/in6.h)."""

    number: int
    level: int
    freebind: int  # the address may come later
    tell_link: int  # by which a datagram came
    link: int  # the message that tells it
    link_at: int  # bytes before the link's number in it


FAMILIES = {
    4: Family(socket.AF_INET, socket.IPPROTO_IP, 15, 8, 8, 0),
    6: Family(socket.AF_INET6, socket.IPPROTO_IPV6, 78, socket.IPV6_RECVPKTINFO, socket.IPV6_PKTINFO, 16),
}


class Server:
    def __init__(self, places: Sequence[tuple[str, int]]) -> None:
        """`places` are addresses and ports."""
        self._zone = Zone()
        self._udp = [(_family(address), _listening(address, port)) for address, port in places]
        self._tcp = [_bound(socket.SOCK_STREAM, address, port) for address, port in places]
        self._connections: Counter[str] = Counter()
        self._near: dict[int, bool] = {}

    async def run(self) -> None:
        """Until standard input ends."""
        loop = asyncio.get_running_loop()
        for family, udp in self._udp:
            loop.add_reader(udp, partial(self._datagrams, family, udp))
        serving = [await asyncio.start_server(self._connection, sock=tcp, limit=1 << 16) for tcp in self._tcp]
        try:
            await self._updates()
        finally:
            for each in serving:
                each.close()
            for _, udp in self._udp:
                loop.remove_reader(udp)
                udp.close()

    async def _updates(self) -> None:
        reader = asyncio.StreamReader(limit=LINE_LIMIT)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            self._zone.apply(messages.decode(line))
            if not self._connections:  # asyncio makes a cycle of each, which would stay for ever if it were frozen
                gc.collect()
                gc.freeze()  # what is known for long is not looked through again and again while answers wait

    def _datagrams(self, family: Family, udp: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                message, ancillary, _, source = udp.recvmsg(LONGEST_DATAGRAM, 64)
            except OSError:  # none left; or the word that an earlier answer found nobody
                return
            answer = self._answer(message, source[0], datagram=True)
            if answer is not None and self._may_answer(source[0], family, ancillary):
                with suppress(OSError):
                    udp.sendto(answer, source)

    def _answer(self, message: bytes, source: str, *, datagram: bool) -> bytes | None:
        try:
            return resolver.answer(self._zone, message, source, datagram=datagram)
        except Exception:  # one query must not end the service for all others
            log.exception("a query has no answer", extra={"query": message[:64].hex()})
            return None

    def _may_answer(self, source: str, family: Family, ancillary: list[tuple[int, int, bytes]]) -> bool:
        """Containers of ours, and to tell them no, those of Docker's bridges and this host: nobody beyond it."""
        if self._zone.networks_of(source) is not None:
            return True
        told = (data for _, kind, data in ancillary if kind == family.link)
        index = next((struct.unpack_from("=I", data, family.link_at)[0] for data in told), 0)
        if index not in self._near:
            self._near[index] = _is_near(index)
        return self._near[index]

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = writer.get_extra_info("peername")[0]
        known = self._zone.networks_of(source) is not None
        self._connections[source] += 1
        try:
            if known and self._connections.total() <= TCP_AT_ONCE and self._connections[source] <= TCP_OF_ONE:
                await self._serve(reader, writer, source)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # gone, or too slow
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()
            self._connections[source] -= 1
            self._connections += Counter()  # forget the zeros

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: str) -> None:
        while True:
            async with asyncio.timeout(TCP_PATIENCE):
                size = int.from_bytes(await reader.readexactly(2))
                answer = self._answer(await reader.readexactly(size), source, datagram=False)
                if answer is None:
                    return
                writer.write(len(answer).to_bytes(2) + answer)
                await writer.drain()
            await asyncio.sleep(0)  # who has sent thousands at once waits for all others after each


def _family(address: str) -> Family:
    return FAMILIES[ip_address(address).version]


def _listening(address: str, port: int) -> socket.socket:
    family, udp = _family(address), _bound(socket.SOCK_DGRAM, address, port)
    udp.setsockopt(family.level, family.tell_link, 1)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    return udp


def _bound(kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    family = _family(address)
    bound = socket.socket(family.number, kind)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(family.level, family.freebind, 1)
    bound.setblocking(False)
    bound.bind((address, port))
    return bound


def _is_near(index: int) -> bool:
    """Whether what comes from this interface comes from this host: from itself, a bridge or one end of a pair."""
    try:
        name = socket.if_indextoname(index)
    except OSError:
        return False
    return name == "lo" or name.startswith("flv") or os.path.isdir(f"/sys/class/net/{name}/bridge")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the agent ends it
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    port, *addresses = sys.argv[1:]
    try:
        server = Server([(address, int(port)) for address in addresses])
    except OSError as error:
        where = " and ".join(addresses)
        sys.exit(f"names cannot be served at {where} port {port}: {error.strerror}; see FLANNELPY_DNS")
    try:
        give_up_root()  # the sockets were all that needed it
    except OSError as error:
        log.warning(
            "the resolver of names stays root: %s; `flannelpy install` writes a unit that lets it", error.strerror
        )
    asyncio.run(server.run())
