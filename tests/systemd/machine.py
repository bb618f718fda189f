"""A Debian machine with a systemd of its own: `systemd-nspawn --boot`, plugged into the lab's switch.

It begins as `scripts/systemd-base` made it, with Docker and nothing else. What is written to it stays over a reboot. A
Consul agent runs on it as a service, since the README asks for one that answers on the host itself."""

import json
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.lab import cgroups, commands, consul
from tests.lab.images import ROOT
from tests.lab.machine import Machine
from tests.lab.machine import enter as enter_all
from tests.lab.namespaces import Switch
from tests.lab.processes import Daemon, pids_where

BASE = ROOT / ".cache/systemd-base"
UNITS = "etc/systemd/system"
STARTED = "multi-user.target.wants"
LOGIN = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8")

# Each systemd in a control group of its own, in every hierarchy: two in one end each other's services.
JOIN = 'for group in $GROUPS_OF_ITS_OWN; do echo $$ >"$group/cgroup.procs"; done; exec systemd-nspawn "$@"'

# Control groups of version 1 are given to a machine to look at only; Docker makes some.
OPEN_CGROUPS = """
[Unit]
DefaultDependencies=no
Before=containerd.service docker.service
[Service]
Type=oneshot
ExecStart=sh -c 'findmnt -lno TARGET -t cgroup | xargs -rn1 mount -o remount,bind,rw'
"""
CONSUL = """
[Unit]
After=network-online.target
[Service]
ExecStart=/usr/local/bin/consul agent -data-dir=/var/lib/consul -bind={address} -retry-join={server} -retry-interval=1s
Restart=always
"""


def missing() -> str:
    """Empty when nothing is."""
    return "" if BASE.exists() else f"{BASE} is missing; run scripts/setup --systemd"


class SystemdMachine(Machine):
    """`hostname` is what it calls itself; `name` is the lab's."""

    def __init__(self, name: str, number: int, directory: Path, switch: Switch, hostname: str, shown: Path) -> None:
        """`shown` is a folder that the machine sees as /srv/shown."""
        super().__init__(name, number, directory, switch)
        self.hostname, self._shown, self._root = hostname, shown, directory / "root"

    @property
    def enter(self) -> tuple[str, ...]:
        return (*enter_all(self.init.pid), "--cgroup", "env", "-i", *LOGIN)

    # --- power

    def power_on(self) -> None:
        if not self._root.exists():
            self._unpack()
        self.namespace.create()
        self.switch.plug(self.namespace, self.number)
        command = ("sh", "-ec", JOIN, "sh", *self._options())
        groups = " ".join(map(str, self._make_cgroups()))
        env = {"GROUPS_OF_ITS_OWN": groups, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"}
        self._init = init = Daemon(f"the machine {self.name}", command, self.directory / "boot.log", env=env)
        self._nspawn = init.pid
        commands.wait_until(f"{self.name} to have started", self._started, timeout=90, tail=init.tail, every=0.3)

    def power_off(self) -> None:
        super().power_off()
        cgroups.remove(self.name)

    def reboot(self) -> None:
        """In order, as `systemctl reboot` does it; interfaces, rules and `/run` are new afterwards."""
        self.attempt("systemctl", "reboot")
        self.init.wait(90)
        self.power_off()
        self.power_on()

    def _started(self) -> bool:
        """Everything that starts with the machine has, or has failed to."""
        if not self.powered:
            raise RuntimeError(f"{self.init.name} ended while it started\n{self.init.tail()}")
        self.init.pid = self._first_process()
        return self.attempt("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def _first_process(self) -> int:
        """The machine's systemd, or for the first moments what becomes it."""
        return max(pids_where(lambda stat: stat.parent == self._nspawn), default=self._nspawn)

    def _unpack(self) -> None:
        for folder in ("root", "upper", "work", "docker"):
            (self.directory / folder).mkdir(parents=True)
        layers = f"lowerdir={BASE / 'tree'},upperdir={self.directory / 'upper'},workdir={self.directory / 'work'}"
        commands.run("mount", "-t", "overlay", "-o", layers, "overlay", str(self._root))
        self._write("etc/hostname", self.hostname)
        self._write("etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.hostname}")
        self._write("etc/resolv.conf", f"nameserver {self.switch.address}\noptions timeout:1 attempts:1")
        self._write("etc/machine-id", secrets.token_hex(16))
        consul_unit = CONSUL.format(address=self.address, server=self.switch.address_of(2))
        for unit, text in (("cgroups.service", OPEN_CGROUPS), ("consul.service", consul_unit)):
            self._write(f"{UNITS}/{unit}", text)
            self._link(f"{UNITS}/{STARTED}/{unit}", f"/{UNITS}/{unit}")

    def _write(self, path: str, text: str) -> None:
        file = self._root / path
        file.unlink(missing_ok=True)  # never through a link, which leads out of the machine
        file.write_text(f"{text}\n")

    def _link(self, path: str, target: str) -> None:
        (self._root / path).symlink_to(target)

    def _options(self) -> Iterable[str]:
        yield from ("--boot", "--quiet", "--console=pipe", f"--directory={self._root}", f"--machine={self.name}")
        yield f"--network-namespace-path={self.namespace.path}"
        yield from ("--register=no", "--keep-unit", "--resolv-conf=off", "--timezone=off", "--link-journal=no")
        yield from ("--capability=all", "--system-call-filter=bpf keyctl add_key", "--bind=/dev/net/tun")
        yield f"--bind={self.directory / 'docker'}:/var/lib/docker"  # its layers cannot lie on the machine's own
        yield f"--bind-ro={BASE / 'mirror'}:/srv/mirror"
        yield f"--bind-ro={self._shown}:/srv/shown"
        yield f"--bind-ro={consul.BINARY}:/usr/local/bin/consul"

    def _make_cgroups(self) -> list[Path]:
        groups = [hierarchy / self.name for hierarchy in cgroups.hierarchies()]
        for group in groups:
            group.mkdir()
            for needed in ("cpuset.cpus", "cpuset.mems"):  # version 1 takes no process before these are set
                if (group.parent / needed).exists():
                    (group / needed).write_text((group.parent / needed).read_text())
        return groups

    # --- what a user does

    def type(self, lines: str, *, timeout: float = 300) -> str:
        """In a shell, line by line up to the first that fails; yes to every question."""
        return self.run("sh", "-c", 'yes | bash -exc "$0"', lines, timeout=timeout)

    def docker(self, *args: str, timeout: float = 60) -> str:
        return self.run("docker", *args, timeout=timeout)

    def docker_json(self, *args: str) -> Any:
        return json.loads(self.docker(*args))

    def container_exec(self, container: str, *command: str) -> str:
        return self.docker("exec", container, *command)

    def systemd(self, unit: str, prop: str) -> str:
        """What systemd says of a unit."""
        return self.run("systemctl", "show", "--value", "--property", prop, unit)

    def journal(self, unit: str, lines: int = 60) -> str:
        done = self.attempt("journalctl", "--no-pager", "-o", "cat", "-n", str(lines), "-u", unit)
        return f"--- {unit} of {self.name} ---\n{done.stdout}"
