"""The door to WireGuard: devices, peers and their prefixes, in the kernel or, where it has none, in wireguard-go.

All is said through `wg`, which speaks to both alike. wireguard-go is a process of its own that outlives this one; it
is found again by its socket. It ends when its link or its socket is removed, and a link goes with its process."""

import logging
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from functools import lru_cache, partial
from ipaddress import ip_network
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from driver import wireguard_tool
from driver.command import NoAnswer
from driver.entries import AllowedIp, WireguardPeer
from driver.errors import KernelError
from driver.kernel import WIREGUARD_LINK, Kernel
from driver.one_by_one import one_by_one
from driver.plan import Operation, Put
from driver.state import Object, WireguardDevice, WireguardLink
from driver.wireguard_key import HostKey
from driver.wireguard_peers import Peers
from driver.wireguard_tool import WG, WIREGUARD_GO

log = logging.getLogger(__name__)

SOCKETS = Path("/var/run/wireguard")  # where wireguard-go and wg expect each other
SESSION = 180  # seconds after a handshake in which its keys hold (REJECT_AFTER_TIME)
FAREWELL = 2.0  # seconds in which wireguard-go ends when its link is gone
AT_ONCE = 500  # operations for one `wg`, which Linux gives 2 MB of words
# It must answer in time, and wireguard-go greets its new peers one after the other; those that are on the link and off
# keep it from sending to the others for seconds.
PEERS_AT_ONCE = 50
KNOWN = 1 << 14  # peers, remembered as they were last read


@lru_cache(KNOWN)
def _wireguard_peer(dev: str, key: str, endpoint: str, keepalive: str) -> WireguardPeer:
    return WireguardPeer(dev, key, endpoint, 0 if keepalive == "off" else int(keepalive))


@lru_cache(KNOWN)
def _prefixes(dev: str, key: str, allowed: str) -> tuple[AllowedIp, ...]:
    return tuple(AllowedIp(dev, ip_network(text), key) for text in allowed.split(",") if text != "(none)")


class _Told(NamedTuple):
    """What `wg` says of a peer in one line."""

    handshake: int  # the last one, in seconds since the epoch; 0 if there was none
    peer: WireguardPeer
    prefixes: tuple[AllowedIp, ...]


def _told(dev: str, line: str) -> _Told:
    key, _secret, endpoint, allowed, handshake, _received, _sent, keepalive = line.split("\t")
    return _Told(int(handshake), _wireguard_peer(dev, key, endpoint, keepalive), _prefixes(dev, key, allowed))


def _links() -> Iterable[str]:
    return (name for _, name in socket.if_nameindex())


class WireguardDoor:
    """For the one thread of the reconciler. `links`, `sockets` and `enter` are for another namespace than ours."""

    kinds: tuple[type[Object], ...] = (WireguardLink, WireguardDevice, WireguardPeer, AllowedIp)

    def __init__(
        self,
        key: HostKey,
        open_kernel: Callable[[], AbstractContextManager[Kernel]] = Kernel,
        links: Callable[[], Iterable[str]] = _links,
        sockets: Path = SOCKETS,
        enter: Sequence[str] = (),
    ) -> None:
        self._key, self._open_kernel, self._links = key, open_kernel, links
        self._sockets, self._enter = sockets, enter
        self._peers: defaultdict[str, Peers] = defaultdict(Peers)  # by device
        self._told: dict[str, dict[str, _Told]] = {}  # by device and line: nearly all are as they were the last time
        self._mute: dict[str, str] = {}  # why nothing is heard of a device, and nothing need be tried

    # reading

    def read(self) -> Iterator[Object]:
        for peers in self._peers.values():
            peers.look()
        self._mute.clear()
        for dev in self._links():
            if dev.startswith(WIREGUARD_LINK):
                yield from self._device(dev)

    def _device(self, dev: str) -> Iterator[Object]:
        """The link alone, where nothing is heard of it: it stays as it is. Nothing, where nobody is behind it."""
        try:
            device, *lines = self._dump(dev)
        except NoAnswer as error:
            self._mute[dev] = str(error)
            yield WireguardLink(dev)
            return
        except KernelError as error:
            log.warning("WireGuard device has no process", extra={"why": error})
            return
        _private, public, port, _mark = device.split("\t")
        yield WireguardLink(dev)
        yield WireguardDevice(dev, int(port), own_key=self._is_own(public))
        known, peers, session = self._told.get(dev, {}), self._peers[dev], time.time() - SESSION
        self._told[dev] = {line: known.get(line) or _told(dev, line) for line in lines}
        for told in self._told[dev].values():
            yield peers.read(told.peer, told.prefixes, live=told.handshake > session)
            yield from told.prefixes

    def _dump(self, dev: str) -> list[str]:
        """The device, then its peers: a line each."""
        told = self._wg("show", dev, "dump").splitlines()
        if not told:
            raise NoAnswer(f"wg show {dev} dump: nothing was said")
        return told

    def _is_own(self, public_key: str) -> bool:
        try:
            return public_key == self._key.public()
        except KernelError:
            return False  # why is said when it is to be set

    # changing

    def apply_all(self, operations: Iterable[Operation]) -> dict[Operation, str]:
        failed: dict[Operation, str] = {}
        for (dev, kind, _), some in groupby(operations, lambda each: (each.object.dev, type(each.object), type(each))):
            if kind is WireguardLink:
                failed |= one_by_one(self._apply_link, some)
                continue
            alike = list(some)
            most = PEERS_AT_ONCE if kind is WireguardPeer else AT_ONCE
            for start in range(0, len(alike), most):
                failed |= self._at_once(dev, alike[start : start + most])
        return failed

    def _apply_link(self, operation: Operation) -> None:
        dev = operation.object.dev
        self._mute.pop(dev, None)
        self._peers.pop(dev, None)
        self._told.pop(dev, None)
        if isinstance(operation, Put):
            self._start(dev)
        else:
            self._stop(dev)

    def _at_once(self, dev: str, alike: Sequence[Operation]) -> dict[Operation, str]:
        """Operations of one kind. `wg` does not say which of them was refused, so they are halved until it is alone;
        those that were already carried out are carried out again, to the same end."""
        if dev in self._mute:
            return {operation: f"{operation}: {self._mute[dev]}" for operation in alike}
        try:
            self._tell(dev, alike)
        except KernelError as error:
            if isinstance(error, NoAnswer) or dev not in self._links():
                self._mute[dev] = str(error)
                return self._at_once(dev, alike)
            if len(alike) == 1:
                return {alike[0]: str(error)}
            half = len(alike) // 2
            return self._at_once(dev, alike[:half]) | self._at_once(dev, alike[half:])
        return {}

    def _tell(self, dev: str, alike: Sequence[Operation]) -> None:
        match alike[0]:
            case Put(WireguardDevice(port=port)):
                self._key.public()  # makes it, or says what is wrong with it
                self._wg("set", dev, "listen-port", str(port), "private-key", str(self._key.path))
            case _:
                if words := self._peers[dev].words(alike):
                    self._wg("set", dev, *words)
                self._peers[dev].done(alike)

    def _start(self, dev: str) -> None:
        with self._open_kernel() as kernel:
            if renamed := next(filter(partial(self._was, dev), kernel.links_of("wireguard")), None):
                kernel.rename_link(renamed, dev)
                return
            if kernel.add_wireguard(dev):
                return
        if not wireguard_tool.is_installed(WIREGUARD_GO):
            raise KernelError(
                f"+ link {dev} type wireguard: this kernel has no WireGuard, and wireguard-go is missing; "
                "load the module wireguard, or install the package wireguard-go"
            )
        self._end_lost(dev)
        self._run(WIREGUARD_GO, dev)  # back when link and socket are there

    def _was(self, dev: str, other: str) -> bool:
        """Whether a link of the kernel's WireGuard is ours under another name: it has our key, and the port."""
        try:
            device, *_ = self._dump(other)
        except KernelError:
            return False
        _private, public, port, _mark = device.split("\t")
        return f"{WIREGUARD_LINK}{port}" == dev and self._is_own(public)

    def _end_lost(self, dev: str) -> None:
        """A wireguard-go whose link somebody has renamed has that link, and the port, until its socket is removed."""
        path = self._sockets / f"{dev}.sock"
        with socket.socket(socket.AF_UNIX) as lost, suppress(OSError):  # nobody may be there
            lost.settimeout(FAREWELL)
            lost.connect(str(path))
            path.unlink()
            lost.recv(1)  # nothing, when it ends

    def _stop(self, dev: str) -> None:
        """wireguard-go sees its link go, and takes its socket along. A new one must not meet the old one's end."""
        with self._open_kernel() as kernel:
            kernel.delete_link(dev)
        path, until = self._sockets / f"{dev}.sock", time.monotonic() + FAREWELL
        while path.exists() and time.monotonic() < until:
            time.sleep(0.01)
        path.unlink(missing_ok=True)

    def _wg(self, *words: str) -> str:
        return self._run(WG, *words)

    def _run(self, *command: str) -> str:
        return wireguard_tool.run(*command, enter=self._enter)
