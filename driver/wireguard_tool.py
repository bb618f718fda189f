"""The programs of WireGuard: `wg` speaks to the kernel's implementation and to wireguard-go alike."""

import os
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Sequence

from driver.errors import KernelError

WG, WIREGUARD_GO = "wg", "wireguard-go"
TIMEOUT = 5.0
MOST_SAID = 300  # characters of a command in a message
PACKAGES = {WG: "wireguard-tools", WIREGUARD_GO: "wireguard-go"}


class NoAnswer(KernelError):
    """Nothing was heard: that says nothing about what is there."""


def is_installed(tool: str) -> bool:
    return shutil.which(tool) is not None


def run(*command: str, stdin: str = "", enter: Sequence[str] = ()) -> str:
    """What it wrote to stdout; KernelError with what it wrote to stderr, or NoAnswer. Its stdin is in no message.

    A session of its own, because wireguard-go stays, in the session of whoever started it. Without LOG_LEVEL, which
    would make it hold on to our stderr."""
    try:
        done = subprocess.run(
            [*enter, *command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            start_new_session=True,
            env={"PATH": os.environ.get("PATH", os.defpath)},
        )
    except FileNotFoundError:
        package = PACKAGES.get(command[0], command[0])
        raise NoAnswer(f"the command {command[0]} is missing; install the package {package}") from None
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"{_short(command)}: no answer in {TIMEOUT:.0f} s") from None
    except OSError as error:
        raise KernelError(f"{_short(command)}: {error.strerror}") from error  # E2BIG, too: more words than Linux takes
    if done.returncode != 0:
        raise KernelError(f"{_short(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _short(command: Sequence[str]) -> str:
    return textwrap.shorten(shlex.join(command), MOST_SAID, placeholder=" ...")
