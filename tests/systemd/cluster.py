"""Two machines as the README leaves them, and what tests do with them."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.lab import commands
from tests.lab.cluster import DOCKERS_OWN, side_by_side
from tests.lab.commands import wait_until
from tests.lab.images import ROOT, busybox_layer
from tests.lab.lab import FIRST_HOST, Lab
from tests.systemd import readme
from tests.systemd.machine import SystemdMachine

SHOWN = "/srv/shown"
AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@localhost")
# What the README takes from a registry: a web server, and a shell.
IMAGES = {"nginx": 'CMD ["httpd", "-f", "-h", "/var/www"]', "busybox": 'CMD ["sh"]'}

TOLD: list[str] = []  # what is worth reading at the end of a run


@dataclass(frozen=True, slots=True)
class Container:
    host: SystemdMachine
    name: str
    pid: str
    address: str

    def pings(self, name: str) -> bool:
        done = self.host.attempt("docker", "exec", self.name, "ping", "-c", "3", "-W", "2", name)
        return done.returncode == 0


Pair = tuple[Container, Container]


class Installed(NamedTuple):
    machines: list[SystemdMachine]
    said: list[str]  # what the user read


def show(folder: Path) -> None:
    """What the machines are given: this checkout as a repository, changes included, and a file system for images."""
    clone = folder / "flannelpy"
    for name in commands.run("git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z").split("\0"):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    for words in (("init", "-q"), ("add", "-A"), (*AUTHOR, "commit", "-q", "-m", "the checkout")):
        commands.run("git", "-C", str(clone), *words)
    (folder / "busybox.tar").write_bytes(busybox_layer().data)


def fresh_machines(lab: Lab) -> list[SystemdMachine]:
    """Debian, Docker with two images, a Consul agent, and nothing else."""
    folder = lab.directory / "shown"
    show(folder)
    machines = [
        SystemdMachine(
            f"{lab.prefix}m{number}",
            FIRST_HOST - 1 + number,
            lab.directory / f"m{number}",
            lab.switch,
            f"host{number}",
            folder,
        )
        for number in (1, 2)
    ]
    side_by_side(_begin, machines)
    return machines


def _begin(machine: SystemdMachine) -> None:
    machine.power_on()
    machine.run("apt-get", "-qq", "update")
    for name, change in IMAGES.items():
        machine.docker("import", "--change", change, f"{SHOWN}/busybox.tar", name)


def install(machine: SystemdMachine) -> str:
    """What the README says below "As a service", typed: what the user then reads."""
    steps = readme.block("### As a service", "apt install")
    return machine.type(steps.replace("URL-OF-THIS-REPOSITORY", f"{SHOWN}/flannelpy"))


def networks(machine: SystemdMachine) -> set[str]:
    """Those that Docker does not have from the start."""
    return set(machine.docker("network", "ls", "--format", "{{.Name}}").split()) - DOCKERS_OWN


def has_network(machine: SystemdMachine, name: str) -> bool:
    return name in networks(machine)


def remove_containers(machine: SystemdMachine) -> None:
    if containers := machine.docker("ps", "-aq").split():
        machine.docker("rm", "-f", *containers)


def run(machine: SystemdMachine, name: str, network: str, *options: str) -> Container:
    """A container that serves, in the background."""
    machine.docker("run", "-d", "--stop-signal", "KILL", "--name", name, "--network", network, *options, "nginx")
    return look(machine, name, network)


def look(machine: SystemdMachine, name: str, network: str) -> Container:
    seen = machine.docker_json("inspect", name)[0]
    return Container(
        machine, name, str(seen["State"]["Pid"]), seen["NetworkSettings"]["Networks"][network]["IPAddress"]
    )


def unreached(containers: Sequence[Container]) -> list[str]:
    """Every pair of which one does not reach the other by name."""
    pairs = [(one, other) for one in containers for other in containers if one != other]
    return [f"{one.name} -> {other.name}" for one, other in pairs if not one.pings(other.name)]


def await_reached(containers: Sequence[Container]) -> None:
    """Names of other hosts are unknown for a second while flannelpy starts."""
    wait_until("all to be reached by name", lambda: not unreached(containers), timeout=20, every=0.5)


def await_network(machine: SystemdMachine, name: str) -> None:
    wait_until(f"{name} on {machine.name}", lambda: has_network(machine, name), timeout=15, every=0.1)
