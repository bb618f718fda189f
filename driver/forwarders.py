"""The door to the forwarders of the udp backend: one process for each UDP port, which serves all networks of it.

A forwarder is found by its unix socket in the state directory, `forwarder-PORT.sock`, and by that alone. The socket is
made here and inherited, so where it answers there is one, and only one. It is a session of its own and goes on while
flannelpy is restarted, replaced or gone. It ends by itself, and takes the socket's file along, when the last of its
devices is deleted. The devices are persistent: routes and addresses stay when a forwarder dies and is started again.

One of another version (of the control interface, not of flannelpy) is stopped and replaced; peers are told it anew."""

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address, ip_network
from pathlib import Path

import msgspec

from driver.errors import KernelError
from driver.forwarder import control, tun
from driver.forwarder.control import Answer, Request
from driver.kernel import Kernel
from driver.one_by_one import one_by_one
from driver.plan import Operation, Put
from driver.state import Forwarder, Object, TunLink, UdpPeer

PATIENCE = 2.0  # seconds for an answer; who does not answer does not forward either
CHANCES = 5  # times that, for one that is kept from running
START = 5.0  # seconds for a new one to be at work


class Forwarders:
    kinds: tuple[type[Object], ...] = (TunLink, Forwarder, UdpPeer)

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[Path, tuple[Answer, list[Object]]] = {}

    def read(self) -> Iterator[Object]:
        """Networks and peers; the devices themselves are read with the other links."""
        for path in self._directory.glob("forwarder-*.sock"):
            answer = ask(path, control.Ask())
            if answer is None or answer.version != control.VERSION:
                continue
            known = self._read.get(path)
            if known is None or known[0] != answer:
                known = self._read[path] = (answer, list(_objects(answer, int(path.stem.rpartition("-")[2]))))
            yield from known[1]

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
                case UdpPeer(dev, host, address, port, blocks):
                    if isinstance(operation, Put):
                        peer = control.Peer(host, str(address), tuple(map(str, blocks)))
                        self._tell(port, control.PutPeer(dev, peer))
                    else:
                        self._tell(port, control.DropPeer(dev, host))

    def _path(self, port: int) -> Path:
        return self._directory / f"forwarder-{port}.sock"

    def _tell(self, port: int, request: Request) -> None:
        answer = ask(self._path(port), request)
        if answer is None:
            raise KernelError(f"no forwarder runs for UDP port {port}")
        if answer.error is not None:
            raise KernelError(answer.error)

    def _ensure(self, wanted: Forwarder) -> None:
        """A forwarder of this version at this address. Another one goes."""
        path = self._path(wanted.port)
        found = ask(path, control.Ask())
        if found is not None:
            if (found.version, found.local) == (control.VERSION, str(wanted.local)):
                return
            ask(path, control.Stop())
        path.unlink(missing_ok=True)  # nobody answers there, or has just been told not to
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


def ask(path: Path, request: Request) -> Answer | None:
    """None if no forwarder is there. One that does not answer is ended: its networks are better off with a new one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking, _address(path) as address:
        asking.settimeout(PATIENCE)
        try:
            asking.connect(address)
        except OSError:
            return None
        try:
            asking.sendall(msgspec.json.encode(request) + b"\n")
            _await_answer(asking)
            with asking.makefile("rb") as answer:
                return msgspec.json.decode(answer.read(), type=Answer)
        except TimeoutError:
            _end(asking)
            return None
        except (ConnectionError, msgspec.DecodeError):
            return None  # it is just ending


def _await_answer(asking: socket.socket) -> None:
    for left in reversed(range(CHANCES)):
        try:
            asking.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            if not left or not _is_kept_from_running(_pid_of(asking)):
                raise
        else:
            return


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


def _objects(answer: Answer, port: int) -> Iterable[Object]:
    for network in answer.networks:
        dev = network.link.dev
        yield Forwarder(dev, network.link.vni, port, ip_address(answer.local))
        for peer in network.peers:
            blocks = tuple(map(ip_network, peer.blocks))
            yield UdpPeer(dev, peer.host, ip_address(peer.address), port, blocks)


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
