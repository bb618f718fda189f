"""Running commands and waiting for things, always with an end and always with the reason when it fails."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping

FOREIGN = ("CONSUL_", "DOCKER_", "FLANNELPY_")  # what the caller's shell is set to says nothing about the lab


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's, without settings of what runs in the lab; no proxy is reached from there either."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(FOREIGN) and not key.lower().endswith("_proxy")
    }
    return {**kept, **(extra or {})}


class CommandFailed(Exception):
    """A command that did not do what was asked; its text holds everything it said."""

    def __init__(self, command: tuple[str, ...], reason: str, stdout: str, stderr: str) -> None:
        super().__init__(f"`{' '.join(command)}` {reason}\nstdout: {stdout.strip()}\nstderr: {stderr.strip()}")
        self.stdout = stdout
        self.stderr = stderr


class NotInTime(Exception):
    """Something awaited did not come."""


def attempt(
    *command: str, timeout: float = 60, stdin: str | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run to the end, whatever that is; on a time-out every process the command started in its session group dies."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment(env),
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(stdin, timeout)
        except BaseException as error:
            kill_group(process.pid)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            stdout, stderr = process.communicate(timeout=10)
            raise CommandFailed(command, f"did not end within {timeout:g} s", stdout, stderr) from None
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def run(*command: str, timeout: float = 60, stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """What the command wrote, without the blank space around it; anything but exit status 0 is an exception."""
    done = attempt(*command, timeout=timeout, stdin=stdin, env=env)
    if done.returncode:
        raise CommandFailed(command, f"ended with status {done.returncode}", done.stdout, done.stderr)
    return done.stdout.strip()


def kill_group(leader: int) -> None:
    """`nsenter` forks when it enters a process namespace, so that killing it alone would leave the command behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def wait_until(
    what: str,
    condition: Callable[[], object],
    *,
    timeout: float,
    tail: Callable[[], str] = str,
    every: float = 0.03,
) -> None:
    """Ask until the answer is true; `tail` is asked for the log's last lines when it never is."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise NotInTime(f"waited {timeout:g} s in vain for {what}\n{tail()}".rstrip())
        time.sleep(every)
