"""The programs of WireGuard: `wg` speaks to the kernel's implementation and to wireguard-go alike."""

import os
import shutil
from collections.abc import Sequence

from driver.command import call, shown
from driver.errors import KernelError

WG, WIREGUARD_GO = "wg", "wireguard-go"
TIMEOUT = 5.0
PACKAGES = {WG: "wireguard-tools", WIREGUARD_GO: "wireguard-go"}


def is_installed(tool: str) -> bool:
    return shutil.which(tool) is not None


def run(*command: str, stdin: str = "", enter: Sequence[str] = ()) -> str:
    """What it wrote to stdout; KernelError with what it wrote to stderr, or NoAnswer. Its stdin is in no message.

    A session of its own, because wireguard-go stays, in the session of whoever started it. Without LOG_LEVEL, which
    would make it hold on to our stderr."""
    env = {"PATH": os.environ.get("PATH", os.defpath)}
    package = PACKAGES.get(command[0], command[0])
    done = call(command, package=package, timeout=TIMEOUT, stdin=stdin, enter=enter, env=env, session=True)
    if done.returncode != 0:
        raise KernelError(f"{shown(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
