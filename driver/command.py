"""Programs of this host, each run to say or to do one thing; what may go wrong with that becomes a sentence."""

import shlex
import subprocess
import textwrap
from collections.abc import Mapping, Sequence

from driver.errors import KernelError

Done = subprocess.CompletedProcess[str]
MOST_SAID = 300  # characters of a command in a message


class NoAnswer(KernelError):
    """Nothing was heard: that says nothing about what is there."""


def call(
    command: Sequence[str],
    *,
    package: str,
    timeout: float,
    stdin: str = "",
    enter: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    session: bool = False,
) -> Done:
    """`package` has the command; `enter` is what it is run by, in no message; `session` gives it one of its own.

    What it says need be no text: the comment of somebody's rule, or a link's name, is what bytes they gave it."""
    try:
        return subprocess.run(
            [*enter, *command],
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            env=env,
            start_new_session=session,
        )
    except FileNotFoundError:
        raise NoAnswer(f"the command {command[0]} is missing; install the package {package}") from None
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"{shown(command)}: no answer in {timeout:.0f} s") from None
    except OSError as error:
        raise KernelError(f"{shown(command)}: {error.strerror}") from error  # E2BIG, too: more words than Linux takes


def shown(command: Sequence[str]) -> str:
    """As an operator would type it, if it is not too long."""
    return textwrap.shorten(shlex.join(command), MOST_SAID, placeholder=" ...")
