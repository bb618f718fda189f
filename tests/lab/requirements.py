"""What the lab needs of the machine, and the one sentence for when it is not there."""

import os
import shutil

from tests.lab import compose, consul, engines

PROGRAMS = (
    *("bridge", "busybox", "containerd", "docker", "dockerd", "ip", "ip6tables-save", "iperf3", "iptables-save"),
    *("ldd", "mount", "nft", "nsenter", "sh", "tc", "umount", "unshare", "wg", "wireguard-go"),
)


def missing() -> str:
    """Empty when nothing is."""
    if os.geteuid() != 0:
        return "the lab makes network namespaces and runs dockerd, so it needs root"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    for name, binary in (("consul", consul.BINARY), ("docker-compose", compose.BINARY)):
        if not os.access(binary, os.X_OK):
            absent.append(f"{name} (as {binary})")
    if absent:
        return f"the lab needs {', '.join(absent)}; run scripts/setup"
    return engines.chosen().missing()


def demanded() -> bool:
    """Whether a test that cannot run is a failure: a green run that tested nothing would be a lie."""
    return bool(os.environ.get("CI") or os.environ.get("LAB_REQUIRED"))
