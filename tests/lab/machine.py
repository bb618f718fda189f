"""A machine made of namespaces: a network card in the switch, its own processes, mounts, `/run`, `/etc` and host name.

The processes live in a process namespace of their own: when its first process is killed the kernel ends all others with
it, containers included, and the mounts go with the last. So a machine can lose its power at any moment, and nothing of
it can outlive the lab."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.lab import commands
from tests.lab.namespaces import Namespace, Switch
from tests.lab.processes import PROC, Daemon

# Mounts go from the outside in: the new sysfs shows this network's interfaces but no control groups, so these are
# carried over; the machine's own /etc stays below as it is.
BOOT = """
echo "$NAME" >/proc/sys/kernel/hostname
umount -l /run/netns 2>/dev/null || true
mount -t proc proc /proc
mount -t tmpfs -o mode=755,size=256m tmpfs /run
mkdir /run/lock /run/cgroup
mount --rbind /sys/fs/cgroup /run/cgroup
umount -l /sys
mount -t sysfs sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup
umount -l /run/cgroup
rmdir /run/cgroup
mount -t overlay -o lowerdir=/etc,upperdir="$DIRECTORY/etc",workdir="$DIRECTORY/etc.work" overlay /etc
echo "$NAME" >/etc/hostname
rm -f /etc/resolv.conf
printf 'nameserver %s\\noptions timeout:1 attempts:1\\n' "$GATEWAY" >/etc/resolv.conf
touch "$DIRECTORY/up"
sleep infinity &
wait
"""


def enter(pid: int) -> tuple[str, ...]:
    """What to put before a command that shall run where this process of a machine does."""
    return ("nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p")


class Machine:
    """Powered on and off as often as wanted; what is below `directory` stays."""

    def __init__(self, name: str, number: int, directory: Path, switch: Switch) -> None:
        self.name, self.number, self.directory, self.switch = name, number, directory, switch
        self.namespace = Namespace(name)
        self.address, self.address6 = switch.address_of(number), switch.address6_of(number)
        self._init: Daemon | None = None

    @property
    def init(self) -> Daemon:
        """Its first process. Holds the namespaces, and buries what others leave behind."""
        if self._init is None:
            raise RuntimeError(f"{self.name} is not powered on")
        return self._init

    @property
    def powered(self) -> bool:
        return self._init is not None and self._init.alive

    @property
    def enter(self) -> tuple[str, ...]:
        """What to put before a command that shall run on this machine."""
        return enter(self.init.pid)

    def path(self, inside: str) -> Path:
        """Where a file of this machine is found from outside, such as a socket below its `/run`."""
        return PROC / str(self.init.pid) / "root" / inside.lstrip("/")

    def power_on(self) -> None:
        for folder in ("etc", "etc.work"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        up = self.directory / "up"
        up.unlink(missing_ok=True)
        self.namespace.create()
        self.switch.plug(self.namespace, self.number)
        unshare = ("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--propagation", "private")
        self._init = init = Daemon(
            f"the machine {self.name}",
            (*self.namespace.enter, *unshare, "sh", "-ec", BOOT),
            self.directory / "boot.log",
            enters=True,
            env={"NAME": self.name, "DIRECTORY": str(self.directory), "GATEWAY": self.switch.address},
        )
        commands.wait_until(
            f"the machine {self.name}", lambda: up.exists() or not init.alive, timeout=15, tail=init.tail
        )
        if not init.alive:
            raise RuntimeError(f"the machine {self.name} ended while it started\n{init.tail()}")

    def power_off(self) -> None:
        """At once, as by pulling the plug: processes, containers, interfaces, rules and all of `/run` are gone."""
        if self._init is not None:
            self._init.kill()
            self._init = None
        self.switch.unplug(self.number)
        self.namespace.delete()

    def cut(self) -> None:
        """Pull the network cable out of the switch."""
        self.switch.cut(self.number)

    def mend(self) -> None:
        self.switch.mend(self.number)

    def run(self, *command: str, timeout: float = 60, stdin: str | None = None) -> str:
        """Run on this machine and return what it wrote; failure is an exception that shows stderr."""
        return commands.run(*self.enter, *command, timeout=timeout, stdin=stdin)

    def attempt(self, *command: str, timeout: float = 60, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run on this machine, and let the caller judge the result."""
        return commands.attempt(*self.enter, *command, timeout=timeout, stdin=stdin)

    def pings(self, address: str, *, tries: int = 3) -> bool:
        """Whether one of so many pings is answered, within a second each."""
        probe = ("busybox", "ping", "-c", "1", "-W", "1", address)
        return any(self.attempt(*probe).returncode == 0 for _ in range(tries))

    def daemon(self, name: str, *command: str, log: str, env: Mapping[str, str] | None = None) -> Daemon:
        """Start a background process on this machine."""
        return Daemon(f"{name} of {self.name}", (*self.enter, *command), self.directory / log, enters=True, env=env)
