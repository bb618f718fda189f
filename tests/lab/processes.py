"""Finding and ending processes by what they belong to, never by what they are called."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.lab.commands import NotInTime, environment, wait_until

PROC = Path("/proc")


class Stat:
    """The few fields of /proc/PID/stat the lab goes by."""

    def __init__(self, text: str) -> None:
        fields = text.rpartition(")")[2].split()  # the name before it may hold anything, blanks and brackets too
        self.state, self.parent, self.session, self.started = fields[0], int(fields[1]), int(fields[3]), fields[19]


def all_pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir(PROC) if entry.isdigit())


def read_stat(pid: int) -> Stat | None:
    """None when there is no such process; a zombie counts as none."""
    try:
        stat = Stat((PROC / str(pid) / "stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if stat.state in "ZX" else stat


def pids_where(wanted: Callable[[Stat], bool]) -> set[int]:
    return {pid for pid in all_pids() if (stat := read_stat(pid)) and wanted(stat)}


def identity(pid: int) -> str:
    """Names a process for ever: a number alone may be given again, even after the machine's restart."""
    stat = read_stat(pid)
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {pid} {stat.started if stat else 'gone'}"


def send(pid: int, signal_number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal_number)


def kill_all(what: str, find: Callable[[], set[int]], timeout: float = 15) -> None:
    """SIGKILL until none is found, since what is being killed may still be starting others."""

    def none_left() -> bool:
        found = find() - {os.getpid()}
        for pid in found:
            send(pid, signal.SIGKILL)
        return not found

    wait_until(f"the end of {what}", none_left, timeout=timeout, every=0.01)


class Daemon:
    """A background process with its log in a file.

    `enters` says that the command goes through an `nsenter` that forks: then the process proper is that one's child."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        enters: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.log = name, log
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment(env),
                start_new_session=True,
            )
        self.pid = self._popen.pid
        if enters:
            self.pid = self._child()

    def _child(self) -> int:
        found: set[int] = set()

        def appeared() -> bool:
            found.update(pids_where(lambda stat: stat.parent == self._popen.pid))
            return bool(found) or not self.alive

        wait_until(f"the process of {self.name}", appeared, timeout=10, tail=self.tail, every=0.005)
        return found.pop() if found else self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def send(self, signal_number: int) -> None:
        """Signal the process proper."""
        if self.alive:
            send(self.pid, signal_number)

    def family(self) -> set[int]:
        """Everything started in its session, the process itself included."""
        return pids_where(lambda stat: stat.session == self._popen.pid)

    def stop(self, timeout: float = 30) -> int:
        """SIGTERM, then wait for the end: the exit status."""
        self.resume()
        self.send(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """SIGKILL to the process proper alone: what it started lives on if it can."""
        self.send(signal.SIGKILL)
        if self.pid != self._popen.pid and self.alive:
            send(self._popen.pid, signal.SIGCONT)  # a paused nsenter would not notice
        self.wait(10)

    def kill_family(self) -> None:
        """SIGKILL to everything of its session, the process itself first so that it cannot start others."""
        self.send(signal.SIGKILL)
        kill_all(f"{self.name} and all it started", self.family)
        self.wait(10)

    def pause(self) -> None:
        """SIGSTOP to all its session: it is there, and answers nothing."""
        for pid in self.family():
            send(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """An nsenter that finds its child stopped stops again: so it goes last."""
        for pid in sorted(self.family(), key=lambda pid: pid == self._popen.pid):
            send(pid, signal.SIGCONT)

    def wait(self, timeout: float) -> int:
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise NotInTime(f"{self.name} did not end within {timeout:g} s\n{self.tail()}") from None

    def tail(self, lines: int = 30, *, without: str = "\0") -> str:
        """The end of its log, under a heading."""
        try:
            text = self.log.read_text(errors="replace")
        except FileNotFoundError:
            text = "(no log)"
        kept = [line for line in text.splitlines() if without not in line]
        return f"--- {self.name}, the end of {self.log.name} ---\n" + "\n".join(kept[-lines:])
