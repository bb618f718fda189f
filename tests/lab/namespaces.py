"""Network namespaces and the cables between them."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.lab.commands import attempt, run
from tests.lab.processes import PROC, all_pids, kill_all

NAMED = Path("/run/netns")  # where iproute2 keeps them
UNDERLAY = "eth0"


class Namespace:
    """A network namespace with a name, which `ip netns exec NAME` knows too."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = NAMED / name

    @property
    def enter(self) -> tuple[str, ...]:
        """What to put before a command that shall run inside, and nowhere else but in the machine's own file system."""
        return ("nsenter", f"--net={self.path}")

    def create(self) -> None:
        """A new namespace takes the machine's own IPv4 settings along; a lab needs to know what it starts from."""
        run("ip", "netns", "add", self.name)
        settings = {
            "net/ipv4/ip_forward": "0",
            "net/ipv4/conf/all/rp_filter": "0",
            "net/ipv4/conf/default/rp_filter": "0",
        }
        self.sysctl(settings)
        self.ip("link", "set", "lo", "up")

    def sysctl(self, settings: Mapping[str, str]) -> None:
        """Those that this kernel has."""
        lines = (f"[ ! -e /proc/sys/{key} ] || echo {value} >/proc/sys/{key}" for key, value in settings.items())
        run(*self.enter, "sh", "-ec", "; ".join(lines))

    def ip(self, *args: str) -> str:
        return run("ip", "-n", self.name, *args)

    def pids(self) -> set[int]:
        """Whatever lives in it; the file is compared, so a name that is only a left-over file matches nothing."""
        return set(self._pids())

    def _pids(self) -> Iterator[int]:
        try:
            wanted = os.stat(self.path)
        except FileNotFoundError:
            return
        for pid in all_pids():
            try:
                found = os.stat(PROC / str(pid) / "ns/net")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # ended, or so well protected that no lab started it
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                yield pid

    def delete(self) -> None:
        """With everything that runs in it."""
        kill_all(f"everything in namespace {self.name}", self.pids)
        if self.path.exists():
            done = attempt("ip", "netns", "del", self.name)
            if done.returncode and self.path.exists():  # else somebody else was quicker
                raise RuntimeError(f"namespace {self.name}: {done.stderr.strip()}")


class Switch(Namespace):
    """A bridge that everything in the lab is plugged into; it is the hosts' default gateway and forwards nothing."""

    address, address6, length, length6 = "172.31.0.1", "fd31::1", 24, 64

    def __init__(self, name: str, mtu: int) -> None:
        super().__init__(name)
        self.mtu = mtu

    def create(self) -> None:
        super().create()
        self.sysctl({"net/bridge/bridge-nf-call-iptables": "0", "net/bridge/bridge-nf-call-ip6tables": "0"})
        self.ip("link", "add", "switch", "mtu", str(self.mtu), "type", "bridge", "mcast_snooping", "0")
        self.ip("addr", "add", f"{self.address}/{self.length}", "dev", "switch")
        self.ip("addr", "add", f"{self.address6}/{self.length6}", "dev", "switch", "nodad")
        self.ip("link", "set", "switch", "up")
        self._nft("add table bridge lab; add chain bridge lab forward { type filter hook forward priority 0; }")

    def plug(self, namespace: Namespace, number: int) -> None:
        """A cable to `namespace`: `eth0` there, with the addresses ending in `number`, and a port here.

        The MAC follows from the number, as a machine keeps its network card over a restart."""
        port, mtu = self.port(number), str(self.mtu)
        self.ip(
            *("link", "add", port, "mtu", mtu, "type", "veth"),
            *("peer", "name", UNDERLAY, "mtu", mtu, "address", f"02:1a:b0:00:00:{number:02x}", "netns", namespace.name),
        )
        self.ip("link", "set", port, "master", "switch", "up")
        namespace.ip("addr", "add", f"{self.address_of(number)}/{self.length}", "brd", "+", "dev", UNDERLAY)
        namespace.ip("addr", "add", f"{self.address6_of(number)}/{self.length6}", "dev", UNDERLAY, "nodad")
        namespace.ip("link", "set", UNDERLAY, "up")
        namespace.ip("route", "add", "default", "via", self.address)
        namespace.ip("route", "add", "default", "via", self.address6)

    def unplug(self, number: int) -> None:
        """At once, where a deleted namespace would take its cable along only some time later."""
        if self.path.exists() and self.port(number) in self.ports():
            self.ip("link", "del", self.port(number))

    def cut(self, number: int) -> None:
        self.ip("link", "set", self.port(number), "down")

    def mend(self, number: int) -> None:
        self.ip("link", "set", self.port(number), "up")

    def part(self, number: int, other: int) -> None:
        """Nothing passes between these two, while both still reach everybody else."""
        for here, there in ((number, other), (other, number)):
            self._nft(f"add rule bridge lab forward iifname {self.port(here)} oifname {self.port(there)} drop")

    def lose(self, number: int, percent: int) -> None:
        """Of a hundred packets in either direction so many are lost, at random."""
        for side in ("iifname", "oifname"):
            lost = f"numgen random mod 100 <= {percent - 1} drop"
            self._nft(f"add rule bridge lab forward {side} {self.port(number)} {lost}")

    def heal(self) -> None:
        """Undo every `part` and `lose`."""
        self._nft("flush chain bridge lab forward")

    def ports(self) -> set[str]:
        listed = self.ip("-br", "link", "show", "master", "switch").splitlines()
        return {line.split("@")[0].split()[0] for line in listed}

    def port(self, number: int) -> str:
        return f"port{number}"

    def address_of(self, number: int) -> str:
        return f"172.31.0.{number}"

    def address6_of(self, number: int) -> str:
        """Decimal digits on purpose: 172.31.0.11 and fd31::11 belong together at a glance."""
        return f"fd31::{number}"

    def _nft(self, text: str) -> None:
        run(*self.enter, "nft", text)
