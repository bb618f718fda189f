"""WireGuard on both ends of a cable: what passes, what does not, and what mends itself. Where this machine's kernel has
none, it is wireguard-go."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from driver import wireguard, wireguard_tool
from driver.backends.interface import Remote, Underlay
from driver.doors import Doors
from driver.errors import KernelError
from driver.goal import LocalNetwork, goal
from driver.kernel import Kernel
from driver.model import Network
from driver.plan import Operation, plan
from driver.state import LinkState, State
from driver.wireguard import WireguardDoor
from driver.wireguard_key import HostKey
from tests.kernel.conftest import NamespaceHost, ip

POOL, POOL6 = ip_network("10.240.0.0/18"), ip_network("fd77::/64")
BLOCKS = [
    (ip_network("10.240.1.0/26"), ip_network("fd77::100/122")),
    (ip_network("10.240.2.0/26"), ip_network("fd77::200/122")),
]
ADDRESSES = [(ip_address(f"192.0.2.{n}"), ip_address(f"fd00:1::{n}")) for n in (1, 2)]
DEV, PORT = "fl.wg8481", 8481
NET = Network(
    "n", (POOL, POOL6), (ip_address("10.240.0.1"), ip_address("fd77::1")), "wireguard", 7, PORT, None, False, ()
)
PRIVATE_RUN = "mkdir -p /run/wireguard && mount -t tmpfs tmpfs /run/wireguard && echo ready && exec sleep 600"

LISTEN = """
import signal, socket
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as wire:
    wire.bind(("eth0", 3))
    print("ready")
    signal.signal(signal.SIGTERM, lambda *_: exit())
    while True:
        print(wire.recv(65535).hex())
"""


def network(number: int) -> Network:
    return replace(NET, host_addresses=tuple(block[1] for block in BLOCKS[number]))


def carry_out(doors: Doors, operations: Iterable[Operation]) -> None:
    for error in doors.apply_all(operations).values():
        raise KernelError(error)


@dataclass
class WireguardHost:
    """A namespace host with a folder of its own for wireguard-go's sockets, held open by a process."""

    base: NamespaceHost
    number: int
    keeper: int
    key: HostKey
    door: WireguardDoor
    goal: State

    def ip(self, *words: str) -> str:
        return self.base.ip(*words)

    def run(self, *command: str) -> str:
        return wireguard_tool.run(*command, enter=enter(self.keeper))

    def door_after_restart(self) -> WireguardDoor:
        return new_door(self.base, self.keeper, self.key)

    def wants(self, *remotes: Remote, underlay: Callable[[Underlay], Underlay] = lambda found: found) -> None:
        local = LocalNetwork(network(self.number), (), remotes)
        found = underlay(self.base.kernel.underlay(None, ()))
        self.goal = goal(f"h{self.number}", found, [local], Doors(self.base.kernel, [self.door]).read())

    def remote(self, **changes: object) -> Remote:
        """This host, as the others know it."""
        said = Remote(f"h{self.number}", ADDRESSES[self.number], BLOCKS[self.number], self.key.public())
        return replace(said, **changes)  # type: ignore[arg-type]

    def settle(self) -> list[str]:
        doors = Doors(self.base.kernel, [self.door])
        operations = plan(doors.read(), self.goal)
        carry_out(doors, operations)
        return [str(operation) for operation in operations]

    def reaches(self, other: "WireguardHost", version: int = 4, *, size: int = 56, wait: float = 2) -> bool:
        return self.base.pings(BLOCKS[other.number][version == 6][1], size=size, wait=wait)

    def processes(self) -> set[int]:
        """Those of wireguard-go in this namespace."""
        inside = os.stat(f"/run/netns/{self.base.name}").st_ino
        found = set()
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if (path / "comm").read_text().strip() == "wireguard-go" and os.stat(path / "ns/net").st_ino == inside:
                    found.add(int(path.name))
            except OSError:
                continue
        return found

    def endpoint_of(self, other: "WireguardHost") -> str:
        endpoints = dict(line.split("\t") for line in self.run("wg", "show", DEV, "endpoints").splitlines())
        return endpoints[other.key.public()]


def enter(keeper: int) -> tuple[str, ...]:
    return ("nsenter", "-t", str(keeper), "-m", "-n")


def new_door(base: NamespaceHost, keeper: int, key: HostKey) -> WireguardDoor:
    return WireguardDoor(
        key,
        lambda: Kernel(base.name),
        lambda: [line.split()[1].rstrip(":").split("@")[0] for line in ip("-o", "link", netns=base.name).splitlines()],
        Path(f"/proc/{keeper}/root/run/wireguard"),
        enter(keeper),
    )


@contextmanager
def wireguard_host(base: NamespaceHost, number: int, folder: Path) -> Iterator[WireguardHost]:
    command = ["ip", "netns", "exec", base.name, "unshare", "-m", "--propagation", "private", "sh", "-c", PRIVATE_RUN]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == b"ready\n"
        key = HostKey(folder / f"key{number}")
        host = WireguardHost(base, number, keeper.pid, key, new_door(base, keeper.pid, key), {})
        try:
            yield host
        finally:
            try:
                host.goal = {}
                host.settle()
                until(lambda: not host.processes())  # one of many peers takes its time to end
            finally:
                keeper.kill()


@pytest.fixture
def tools() -> None:
    if absent := [tool for tool in ("wg", "wireguard-go") if shutil.which(tool) is None]:
        demanded = os.environ.get("CI") or os.environ.get("LAB_REQUIRED")
        (pytest.fail if demanded else pytest.skip)(f"needs {' and '.join(absent)}; run scripts/setup")


@pytest.fixture
def hosts(
    tools: None, two_hosts: tuple[NamespaceHost, NamespaceHost], tmp_path: Path
) -> Iterator[tuple[WireguardHost, WireguardHost]]:
    with wireguard_host(two_hosts[0], 0, tmp_path) as a, wireguard_host(two_hosts[1], 1, tmp_path) as b:
        a.wants(b.remote())
        b.wants(a.remote())
        a.settle()
        b.settle()
        yield a, b


Hosts = tuple[WireguardHost, WireguardHost]


def test_hosts_reach_each_other_in_both_families_up_to_the_mtu(hosts: Hosts) -> None:
    a, b = hosts
    for version, header in ((4, 28), (6, 48)):
        assert a.reaches(b, version, size=1420 - header)
        assert not a.reaches(b, version, size=1420 - header + 1, wait=0.5)
    assert b.reaches(a)
    assert a.settle() == b.settle() == []


def test_the_underlay_may_have_ipv6_alone(hosts: Hosts) -> None:
    for host, other in (hosts, hosts[::-1]):
        host.wants(
            other.remote(addresses=ADDRESSES[other.number][1:]),
            underlay=lambda found: replace(found, addresses=found.addresses[1:], advertised=found.advertised[1:]),
        )
        host.settle()
    a, b = hosts
    assert a.endpoint_of(b) == f"[fd00:1::2]:{PORT}"
    assert a.reaches(b, 4, size=1420 - 28)
    assert a.reaches(b, 6, size=1420 - 48)


def test_nothing_of_it_can_be_read_between_the_hosts(hosts: Hosts) -> None:
    a, b = hosts
    secret = b"attack at dawn -"
    with wiretap(b) as frames:
        command = ["ping", "-c", "3", "-i", "0.2", "-W", "2", "-p", secret.hex(), "-s", "400", str(BLOCKS[1][0][1])]
        assert a.base.run(*command).returncode == 0
    packets = [frame for frame in frames if frame[12:14] == b"\x08\x00"]  # IPv4; the rest is about neighbours
    data = [frame for frame in packets if len(frame) > 400]
    assert len(data) == 6  # three there, three back
    assert all(frame[23] == socket.IPPROTO_UDP and frame[34:38] == PORT.to_bytes(2) * 2 for frame in packets)
    assert not any(secret[:8] in frame for frame in frames)


@contextmanager
def wiretap(host: WireguardHost) -> Iterator[list[bytes]]:
    """All frames on the host's end of the cable; they are there when the context is left."""
    frames: list[bytes] = []
    command = [*enter(host.keeper), sys.executable, "-u", "-c", LISTEN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "ready\n"
        yield frames
        time.sleep(1)  # the last of them may not have been read yet
        listener.terminate()
        frames.extend(bytes.fromhex(line) for line in listener.stdout)


def test_a_host_without_the_right_key_gets_nothing(hosts: Hosts, tmp_path: Path) -> None:
    a, b = hosts
    a.wants(b.remote(public_key=HostKey(tmp_path / "somebody else's").public()))
    a.settle()
    assert not a.reaches(b, wait=0.5)
    assert not b.reaches(a, wait=0.5)


def test_a_host_that_lost_its_key_makes_another_and_the_others_follow(hosts: Hosts) -> None:
    a, b = hosts
    before = b.key.public()
    b.key.path.unlink()
    assert b.settle() == [f"+ wg {DEV} listen-port {PORT}"]
    assert b.key.public() != before
    assert not a.reaches(b, wait=0.5)
    a.wants(b.remote())
    a.settle()
    assert a.reaches(b)
    assert a.settle() == b.settle() == []
    assert before not in a.run("wg", "show", DEV, "peers")


def test_a_removed_peer_is_cut_off_and_others_keep_their_session(hosts: Hosts, tmp_path: Path) -> None:
    a, b = hosts
    assert b.reaches(a)
    third = Remote(
        "h3", (ip_address("192.0.2.3"),), (ip_network("10.240.3.0/26"),), HostKey(tmp_path / "third").public()
    )
    session = a.run("wg", "show", DEV, "latest-handshakes")
    a.wants(b.remote(), third)
    assert a.settle() == [
        f"+ wg {DEV} peer {third.public_key} endpoint 192.0.2.3:{PORT}",
        f"+ wg {DEV} peer {third.public_key} allowed-ips 10.240.3.0/26",
        f"+ route 10.240.3.0/26 dev {DEV}" + " src 10.240.1.1",
    ]
    assert session.strip() in a.run("wg", "show", DEV, "latest-handshakes")
    a.wants(third)
    a.settle()
    assert not b.reaches(a, wait=0.5)
    assert b.key.public() not in a.run("wg", "show", DEV, "peers")


def test_a_borrowed_address_moves_from_peer_to_peer(hosts: Hosts, tmp_path: Path) -> None:
    """a borrows one of b's own block, a third gives it up and b has it again."""
    a, b = hosts
    other = Remote("h3", (ip_address("192.0.2.3"),), (ip_network("10.240.2.1/32"),), HostKey(tmp_path / "k3").public())
    assert a.reaches(b)
    a.wants(b.remote(), other)  # 10.240.2.1, which answers on b, is now said to be elsewhere
    a.settle()
    assert not a.reaches(b, wait=0.5)
    assert a.reaches(b, 6)  # the rest of b's blocks is as it was
    loan = (*BLOCKS[1], ip_network("10.240.2.1/32"))
    a.wants(b.remote(blocks=loan), replace(other, blocks=(ip_network("10.240.3.0/26"),)))
    assert f"+ wg {DEV} peer {b.key.public()} allowed-ips 10.240.2.1/32" in a.settle()
    assert a.reaches(b)
    assert a.settle() == []


@pytest.mark.parametrize(
    "harm",
    [
        "ip link del DEV",
        "ip link set DEV down",
        "ip link set DEV mtu 1300",
        "ip route del 10.240.2.0/26",
        "ip route replace 10.240.2.0/26 dev DEV mtu lock 600 proto 102",
        "wg set DEV listen-port 9999",
        "wg set DEV peer PEER remove",
        "wg set DEV peer PEER allowed-ips 10.240.2.0/26,10.0.0.0/8",
        "wg set DEV peer OTHER endpoint 192.0.2.9:1 allowed-ips 10.240.2.0/26",
        "wg set DEV private-key KEY",
    ],
)
def test_harm_is_healed_in_one_pass(hosts: Hosts, tmp_path: Path, harm: str) -> None:
    a, b = hosts
    foreign = HostKey(tmp_path / "foreign")
    words = {"DEV": DEV, "PEER": b.key.public(), "OTHER": foreign.public(), "KEY": str(foreign.path)}
    assert b.reaches(a)
    a.run(*(words.get(word, word) for word in harm.split()))
    assert a.settle()
    assert a.settle() == []
    assert b.reaches(a)  # by the other side's doing: its session, if a lost it, must not last
    assert a.reaches(b, 6)


def test_a_renamed_device_is_healed_in_one_pass(hosts: Hosts) -> None:
    """With the kernel's WireGuard it is renamed back, and with wireguard-go there is one process again."""
    a, b = hosts
    processes = len(a.processes())
    for words in (f"{DEV} down", f"{DEV} name lost", "lost up"):
        a.ip("link", "set", *words.split())
    assert a.settle()
    assert a.settle() == []
    assert b.reaches(a)
    assert "lost" not in a.ip("link")
    until(lambda: len(a.processes()) == processes)


def test_a_device_of_which_nothing_is_said_is_left_alone(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = hosts
    with monkeypatch.context() as patched:
        patched.setattr(wireguard_tool, "run", lambda *_, **__: "")
        with pytest.raises(KernelError, match=f"wg show {DEV} dump: nothing was said"):
            a.settle()
    assert a.settle() == []
    assert a.reaches(b)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None])
def test_a_lost_process_is_replaced(hosts: Hosts, end: signal.Signals | None) -> None:
    """None: its socket is removed, which ends it, too."""
    a, b = hosts
    old = processes_or_skip(a)
    for pid in old:
        os.kill(pid, end) if end else Path(f"/proc/{a.keeper}/root/run/wireguard/{DEV}.sock").unlink()
    until(lambda: DEV not in a.ip("link"))
    a.settle()
    assert a.settle() == []
    assert b.reaches(a)
    until(lambda: len(a.processes()) == 1 and not old & a.processes())


def test_a_process_that_does_not_answer_is_left_alone(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = hosts
    (pid,) = processes_or_skip(a)
    os.kill(pid, signal.SIGSTOP)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(wireguard_tool, "TIMEOUT", 0.5)
            with pytest.raises(KernelError, match=f"wg show {DEV} dump: no answer in"):
                a.settle()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert a.settle() == []
    assert a.processes() == {pid}
    assert a.reaches(b)


def processes_or_skip(host: WireguardHost) -> set[int]:
    return host.processes() or pytest.skip("this kernel has WireGuard and needs no process")


def until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("not in 30 s")


def test_a_crash_after_any_step_leaves_exactly_the_rest_to_do(hosts: Hosts) -> None:
    a, _ = hosts
    a.ip("link", "del", DEV)
    doors = Doors(a.base.kernel, [a.door])
    operations = plan(doors.read(), a.goal)
    for done, operation in enumerate(operations, start=1):
        carry_out(doors, [operation])
        doors = Doors(a.base.kernel, [a.door_after_restart()])
        rest = [str(op) for op in plan(doors.read(), a.goal) if not isinstance(op.object, LinkState)]
        assert rest == [str(op) for op in operations[done:] if not isinstance(op.object, LinkState)]


def move(host: WireguardHost, address: str) -> None:
    """To another address in the underlay, unannounced."""
    host.ip("addr", "del", f"{ADDRESSES[host.number][0]}/24", "dev", "eth0")
    host.ip("addr", "add", f"{address}/24", "dev", "eth0")


def test_a_peer_that_moved_is_followed_and_not_fetched_back(hosts: Hosts) -> None:
    a, b = hosts
    move(b, "192.0.2.77")
    # wireguard-go sticks to the address it last sent from, for 15 s without an answer; the kernel's looks.
    b.run("wg", "set", DEV, "peer", a.key.public(), "endpoint", f"192.0.2.1:{PORT}")
    assert b.reaches(a)
    assert a.endpoint_of(b) == f"192.0.2.77:{PORT}"
    assert a.settle() == []
    a.door = a.door_after_restart()
    a.settle()
    assert a.endpoint_of(b) == f"192.0.2.77:{PORT}"
    assert a.settle() == []
    a.wants(b.remote(addresses=(ip_address("192.0.2.99"),)))  # what the record says anew counts at once
    assert a.settle() == [f"+ wg {DEV} peer {b.key.public()} endpoint 192.0.2.99:{PORT}"]
    assert a.endpoint_of(b) == f"192.0.2.99:{PORT}"


def test_a_peer_that_is_not_heard_is_looked_for_where_its_record_says(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = hosts
    monkeypatch.setattr(wireguard, "SESSION", 0)
    a.run("wg", "set", DEV, "peer", b.key.public(), "endpoint", "192.0.2.99:1")
    assert a.settle() == [f"+ wg {DEV} peer {b.key.public()} endpoint 192.0.2.2:{PORT}"]
    assert a.reaches(b)


def test_without_any_wireguard_the_sentence_says_what_to_install(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    a, _ = hosts
    if not a.processes():
        pytest.skip("this kernel has WireGuard")
    a.ip("link", "del", DEV)
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "wireguard-go" else tool)
    with pytest.raises(KernelError, match=r"fl\.wg8481.*or install the package wireguard-go"):
        a.settle()
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KernelError, match="the command wg is missing; install the package wireguard-tools"):
        HostKey(tmp_path / "new").public()


def test_the_key_is_made_once_and_for_root_alone(tools: None, tmp_path: Path) -> None:
    path = tmp_path / "wireguard.key"
    public = HostKey(path).public()
    assert HostKey(path).public() == public
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["wireguard.key"]
    path.unlink()
    assert HostKey(path).public() != public


def test_a_damaged_key_is_told_of_without_its_text(tools: None, tmp_path: Path) -> None:
    path = tmp_path / "wireguard.key"
    path.write_text("c2VjcmV0\n")
    with pytest.raises(KernelError) as refused:
        HostKey(path).public()
    assert str(refused.value) == f"{path} holds no WireGuard key; remove it, and this host makes itself another"


def test_what_a_crash_left_of_a_key_is_no_key(tools: None, tmp_path: Path) -> None:
    (tmp_path / "wireguard.new").write_text("half a k")
    assert HostKey(tmp_path / "wireguard.key").public()
    assert [entry.name for entry in tmp_path.iterdir()] == ["wireguard.key"]
