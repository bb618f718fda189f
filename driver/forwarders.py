"""The door to the forwarders of the udp backend: one process for each UDP port, which serves all networks of it.

A forwarder is found by its unix socket in the state directory, `forwarder-PORT.sock`, and by that alone. The socket is
made here and inherited, so where it answers there is one, and only one. It is a session of its own and goes on while
flannelpy is restarted, replaced or gone. It ends by itself, and takes the socket's file along, when the last of its
devices is deleted. The devices are persistent: routes and addresses stay when a forwarder dies and is started again.

One of another version (of the control interface, not of flannelpy) is stopped and replaced; peers are told it anew.

One that is kept from running, as on an overloaded host, keeps nobody waiting for long: it is taken to be as it last
said, and told nothing, until it has answered a thread of its own."""

import errno
import logging
import math
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from ipaddress import ip_address, ip_network
from pathlib import Path

import msgspec

from driver.backends.interface import REMEMBERED
from driver.entries import UdpPeer
from driver.errors import KernelError
from driver.forwarder import control, tun
from driver.forwarder.control import Answer, Request
from driver.kernel import Kernel
from driver.one_by_one import one_by_one
from driver.plan import Operation, Put
from driver.state import Forwarder, Object, TunLink

log = logging.getLogger(__name__)

SOON = 0.5  # seconds that a pass waits for one that is kept from running
PATIENCE = 2.0  # seconds for an answer; who sleeps through them does not forward either
LONGEST = 10.0  # seconds for one that is kept from running: then it is caught in a loop
START = 5.0  # seconds for a new one to be at work


class Forwarders:
    kinds: tuple[type[Object], ...] = (TunLink, Forwarder, UdpPeer)

    def __init__(self, directory: Path, recovered: Callable[[], object] = lambda: None) -> None:
        """`recovered` hears that one which was kept from running can be asked again."""
        self._directory, self._recovered = directory, recovered
        self._told: dict[Path, tuple[bytes, list[Object]]] = {}  # what each said, and what that means
        self._slow: set[Path] = set()

    def read(self) -> Iterator[Object]:
        """Networks and peers; the devices themselves are read with the other links."""
        for path in self._directory.glob("forwarder-*.sock"):
            yield from self._carried(path)

    def _carried(self, path: Path) -> list[Object]:
        try:
            said = self._hear(path, control.Ask())
        except Slow:
            return self._told[path][1] if path in self._told else []
        known = self._told.get(path)
        if known is None or known[0] != said:
            known = self._told[path] = (said, list(_objects(_decoded(said), int(path.stem.rpartition("-")[2]))))
        return known[1]

    def _ask(self, path: Path, request: Request) -> Answer | None:
        return _decoded(self._hear(path, request))

    def _hear(self, path: Path, request: Request) -> bytes:
        """Slow at once where a thread already waits for it."""
        if path in self._slow:
            raise Slow(path)
        try:
            return hear(path, request, SOON)
        except Slow as error:
            log.warning("a forwarder is slow", extra={"why": error})
            self._slow.add(path)
            threading.Thread(target=self._wait_for, args=(path,), name="slow forwarder", daemon=True).start()
            raise

    def _wait_for(self, path: Path) -> None:
        try:
            hear(path, control.Ask())
        finally:
            self._slow.discard(path)
            self._recovered()

    def apply_all(self, operations: Iterable[Operation]) -> dict[Operation, str]:
        return one_by_one(self._apply, operations)

    def _apply(self, operation: Operation) -> None:
        with _explained(operation):
            match operation.object:
                case TunLink(dev):
                    if isinstance(operation, Put):
                        tun.create(dev)
                    else:
                        with Kernel() as kernel:
                            kernel.delete_link(dev)
                case Forwarder() as wanted:
                    if isinstance(operation, Put):
                        self._ensure(wanted)
                        self._tell(wanted.port, control.Attach(control.Link(wanted.dev, wanted.vni)))
                    else:
                        self._tell(wanted.port, control.Detach(wanted.dev))
                case UdpPeer(dev, host, address, port, blocks, sources):
                    if isinstance(operation, Put):
                        peer = control.Peer(host, str(address), tuple(map(str, blocks)), tuple(map(str, sources)))
                        self._tell(port, control.PutPeer(dev, peer))
                    else:
                        self._tell(port, control.DropPeer(dev, host))

    def _path(self, port: int) -> Path:
        return self._directory / f"forwarder-{port}.sock"

    def _tell(self, port: int, request: Request) -> None:
        answer = self._ask(self._path(port), request)
        if answer is None:
            raise KernelError(f"no forwarder runs for UDP port {port}")
        if answer.error is not None:
            raise KernelError(answer.error)

    def _ensure(self, wanted: Forwarder) -> None:
        """A forwarder of this version at this address. Another one goes."""
        path = self._path(wanted.port)
        found = self._ask(path, control.Ask())
        if found is not None:
            if (found.version, found.local) == (control.VERSION, str(wanted.local)):
                return
            self._ask(path, control.Stop())
        path.unlink(missing_ok=True)  # nobody answers there, or has just been told not to
        self._told.pop(path, None)
        _start(path, wanted)


def _start(path: Path, wanted: Forwarder) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, _address(path) as address:
        listener.bind(address)
        listener.listen()
        path.chmod(0o600)
        descriptor = str(listener.fileno())
        started = subprocess.run(
            [sys.executable, "-I", "-m", "driver.forwarder", descriptor, path, str(wanted.local), str(wanted.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={},  # no tokens
            pass_fds=(listener.fileno(),),
            start_new_session=True,
            timeout=START,
        )
    if started.returncode:
        path.unlink(missing_ok=True)
        raise KernelError(f"no forwarder: {started.stdout.strip() or f'it ended with status {started.returncode}'}")


class Slow(KernelError):
    """It is kept from running: another one would be no better off."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"the forwarder at {path} gets no processor and does not answer; this waits until it does")


def ask(path: Path, request: Request) -> Answer | None:
    """None if no forwarder is there."""
    return _decoded(hear(path, request))


def hear(path: Path, request: Request, patience: float = math.inf) -> bytes:
    """The answer as it was said, nothing if no forwarder is there. One that does not answer is ended: its networks are
    better off with a new one. Slow, and nothing is ended, if it is kept from running for so many seconds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking, _address(path) as address:
        asking.settimeout(PATIENCE)
        try:
            asking.connect(address)
        except OSError:
            return b""
        try:
            asking.sendall(msgspec.json.encode(request) + b"\n")
            _await_answer(asking, path, patience)
            with asking.makefile("rb") as answer:
                return answer.read()
        except TimeoutError:
            _end(asking)
            return b""
        except ConnectionError:
            return b""  # it is just ending


def _decoded(said: bytes) -> Answer | None:
    """None of what ends too soon, as its forwarder did."""
    try:
        return msgspec.json.decode(said, type=Answer)
    except msgspec.DecodeError:
        return None


def _await_answer(asking: socket.socket, path: Path, patience: float) -> None:
    """Until it begins. TimeoutError if it never will."""
    began, pid, heard = time.monotonic(), _pid_of(asking), select.poll()
    heard.register(asking, select.POLLIN)
    while not heard.poll(1000 * SOON):
        silent, kept_from_running = time.monotonic() - began, _is_kept_from_running(pid)
        if silent >= (LONGEST if kept_from_running else PATIENCE):
            raise TimeoutError
        if kept_from_running and silent >= patience:
            raise Slow(path)


def _is_kept_from_running(pid: int) -> bool:
    """It waits for a processor, or for the kernel: another one would be no better off. One that sleeps or was stopped
    is stuck."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] in ("R", "D")
    except OSError:
        return False


def _pid_of(asking: socket.socket) -> int:
    return int(struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


def _end(asking: socket.socket) -> None:
    pid = _pid_of(asking)
    if pid not in (0, os.getpid()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """A name for the path that is short enough for a socket's address."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _objects(answer: Answer | None, port: int) -> Iterable[Object]:
    """None of a forwarder of another version."""
    if answer is None or answer.version != control.VERSION:
        return
    for network in answer.networks:
        dev = network.link.dev
        yield Forwarder(dev, network.link.vni, port, ip_address(answer.local))
        for peer in network.peers:
            yield _udp_peer(dev, port, peer)


@lru_cache(REMEMBERED)
def _udp_peer(dev: str, port: int, peer: control.Peer) -> UdpPeer:
    blocks, sources = tuple(map(ip_network, peer.blocks)), tuple(map(ip_address, peer.sources))
    return UdpPeer(dev, peer.host, ip_address(peer.address), port, blocks, sources)


@contextmanager
def _explained(operation: Operation) -> Iterator[None]:
    try:
        yield
    except KernelError as error:
        raise KernelError(f"{operation}: {error}") from error
    except subprocess.TimeoutExpired:
        raise KernelError(f"{operation}: a new forwarder was not at work in {START:.0f} s") from None
    except FileNotFoundError as error:
        raise KernelError(f"{operation}: {error.filename} is missing; load the module tun") from error
    except OSError as error:
        why = "another program has it open" if error.errno == errno.EBUSY else error.strerror
        raise KernelError(f"{operation}: {why}") from error
