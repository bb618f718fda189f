"""Which Docker Engine the lab's hosts run: this machine's own, or that of another Debian release.

`LAB_ENGINE=28.5` chooses; `scripts/setup` then has made a tree of that release in `.cache/engines`. containerd, dockerd
and the Docker CLI live in that tree, over the same kernel, `/run` and folders as everything else on their host; all
other programs, flannelpy among them, stay on this machine's."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.lab import commands
from tests.lab.machine import Machine
from tests.lab.processes import Daemon

ROOT = Path(__file__).resolve().parents[2]
TREES = ROOT / ".cache/engines"

# The root is exchanged and not merely changed: in a chroot, runc would mount for the container what `docker exec` does
# not find again. /run stays shared, as mounts below it (a container's network namespace) are seen from both roots.
# The tree itself is never written to: each host has a layer of its own above it.
MOVE_IN = """
mount -t overlay -o lowerdir="$TREE",upperdir="$DIRECTORY/engine",workdir="$DIRECTORY/engine.work" overlay "$TREE"
cp /etc/hostname /etc/hosts /etc/resolv.conf "$TREE/etc"
for folder in $FOLDERS; do
    mkdir -p "$TREE$folder"
    mount --bind "$folder" "$TREE$folder"
done
for folder in /proc /sys /dev /run; do mount --rbind "$folder" "$TREE$folder"; done
mkdir -p "$TREE/former"
cd "$TREE"
pivot_root . former
exec chroot . sh -ec 'mount --make-rprivate /former; umount -l /former; touch "$DIRECTORY/engine.up"
exec sleep infinity'
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """`version` is how `dockerd --version` begins; empty for this machine's own."""

    version: str = ""

    @property
    def tree(self) -> Path:
        return TREES / self.version

    def missing(self) -> str:
        """One sentence, empty when nothing is."""
        if not self.version or (self.tree / "usr/sbin/dockerd").exists():
            return ""
        return f"Docker Engine {self.version} is not in {self.tree}; run `LAB_ENGINE={self.version} scripts/setup`"

    def move_in(self, machine: Machine) -> Daemon:
        """A process that holds this Engine's root on the machine, until that loses power."""
        for folder in ("engine", "engine.work"):
            (machine.directory / folder).mkdir(exist_ok=True)
        up = machine.directory / "engine.up"
        up.unlink(missing_ok=True)
        machine.run("mount", "--make-shared", "/run")
        keeper = Daemon(
            f"the Engine's root on {machine.name}",
            (*machine.enter, "unshare", "--mount", "--propagation", "unchanged", "sh", "-ec", MOVE_IN),
            machine.directory / "engine.log",
            enters=True,
            env={
                "TREE": str(self.tree),
                "DIRECTORY": str(machine.directory),
                "FOLDERS": f"{tempfile.gettempdir()} {ROOT}",
            },
        )
        commands.wait_until(keeper.name, lambda: up.exists() or not keeper.alive, timeout=15, tail=keeper.tail)
        if not keeper.alive:
            raise RuntimeError(f"{keeper.name} ended while it was made\n{keeper.tail()}")
        return keeper


def chosen() -> Engine:
    return Engine(os.environ.get("LAB_ENGINE", ""))


def docker_command() -> str:
    """This machine's, Debian's own first: one of another version may not speak to the Engine."""
    found = shutil.which("docker", path="/usr/bin") or shutil.which("docker")
    if found is None:
        raise FileNotFoundError("docker is not installed; run scripts/setup")
    return found
