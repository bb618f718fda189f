"""Several Docker hosts and a Consul, plugged into one switch, on one machine; afterwards as if they had never been."""

import fcntl
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, ClassVar, Self

from tests.lab import cgroups, commands, images
from tests.lab.consul import Consul
from tests.lab.docker_host import DockerHost
from tests.lab.namespaces import NAMED, Namespace, Switch
from tests.lab.processes import identity, kill_all

FIRST_HOST = 11  # the last part of its address
ENDINGS = (signal.SIGTERM, signal.SIGHUP)


class Lab:
    """Names begin with `lab-` and six random digits: two labs never meet, and the leftovers of one can be told."""

    open: ClassVar[list["Lab"]] = []
    times: ClassVar[list[str]] = []  # what each lab of this process took to come and go

    def __init__(
        self,
        hosts: int = 2,
        *,
        servers: int = 1,
        acl: bool = False,
        mtu: int = 1500,
        start: bool = True,
        consul_config: Mapping[str, Any] | None = None,
        dockerd_config: Mapping[str, Any] | None = None,
    ) -> None:
        """`start=False` leaves the hosts off, to be brought up in the test's own order."""
        self.run_id = secrets.token_hex(3)
        self.prefix = f"lab-{self.run_id}-"
        self.directory = folder_of(self.run_id)
        self.switch = Switch(f"{self.prefix}sw", mtu)
        self.consul = Consul(self.prefix, self.directory, self.switch, servers=servers, acl=acl, config=consul_config)
        self.hosts: list[DockerHost] = []
        self._dockerd_config = dict(dockerd_config or {})
        self._wanted, self._start = hosts, start
        self._former: dict[int, Any] = {}
        self._came_up = "never"

    def __enter__(self) -> Self:
        Lab.sweep()
        self._catch_signals()
        began = time.monotonic()
        try:
            self._build()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        self._came_up = f"in {time.monotonic() - began:.1f} s"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, KeyboardInterrupt):
            error.add_note(self.logs())
        began = time.monotonic()
        self.close()
        what = f"{len(self.hosts)} hosts and {len(self.consul.servers)} Consul servers"
        Lab.times.append(f"{what}: up {self._came_up}; gone in {time.monotonic() - began:.1f} s")

    def _build(self) -> None:
        self.directory.mkdir()
        scratch = self.directory / "owner.new"
        scratch.write_text(identity(os.getpid()))
        scratch.rename(self.directory / "owner")
        Lab.open.append(self)
        images.archive()
        self.switch.create()
        hosts = [self._new_host() for _ in range(self._wanted)]
        at_once([self.consul.start, *((host.start for host in hosts) if self._start else ())])

    def _new_host(self) -> DockerHost:
        number = len(self.hosts) + 1
        name = f"{self.prefix}h{number}"
        host = DockerHost(
            name,
            FIRST_HOST - 1 + number,
            self.directory / f"h{number}",
            self.switch,
            dockerd_config=self._dockerd_config,
        )
        self.hosts.append(host)
        return host

    def add_host(self, *, start: bool = True) -> DockerHost:
        """One more, while the others run."""
        host = self._new_host()
        if start:
            host.start()
        return host

    def partition(self, one: Iterable[int], other: Iterable[int]) -> None:
        """Nothing passes between the two groups, given by `number`, until `heal`."""
        others = list(other)
        for here in one:
            for there in others:
                self.switch.part(here, there)

    def heal(self) -> None:
        """Undo every partition, and every loss the switch was told to make."""
        self.switch.heal()

    def logs(self) -> str:
        """The end of every log, for the report of a failed test."""
        tails = [text for host in self.hosts for text in host.logs().values()]
        return "\n".join([*tails, self.consul.tail()])

    def close(self) -> None:
        """Remove everything; a second Ctrl-C does not leave half of it behind."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *ENDINGS):
                self._former.setdefault(number, signal.getsignal(number))
                signal.signal(number, signal.SIG_IGN)
        with ExitStack() as last:
            last.callback(self._restore_signals)
            last.callback(lambda: Lab.open.remove(self) if self in Lab.open else None)
            last.callback(remove_run, self.run_id)  # whatever the orderly way has left
            last.callback(self._end_processes)

    def _end_processes(self) -> None:
        at_once([*(host.die for host in self.hosts), *(server.kill for server in self.consul.servers)])

    def _catch_signals(self) -> None:
        """By default these would end Python without any clean-up. What was forked off has nothing to clean."""
        owner = os.getpid()

        def interrupt(number: int, frame: FrameType | None) -> None:
            if os.getpid() != owner:
                os._exit(128 + number)
            raise KeyboardInterrupt(signal.Signals(number).name)

        if threading.current_thread() is threading.main_thread():
            for number in ENDINGS:
                if signal.getsignal(number) is signal.SIG_DFL:
                    self._former[number] = signal.signal(number, interrupt)

    def _restore_signals(self) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)
        self._former.clear()

    @staticmethod
    def sweep() -> list[str]:
        """Remove what labs left behind whose process is no more: their run ids."""
        with one_at_a_time():
            gone = [run_id for run_id in known_runs() if not owner_lives(run_id)]
            for run_id in gone:
                remove_run(run_id)
            return gone


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Between processes that would remove the same; the lock is on this file, and ends with the process."""
    with open(__file__, "rb") as here:
        fcntl.flock(here, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(here, fcntl.LOCK_UN)


def folder_of(run_id: str) -> Path:
    return Path(tempfile.gettempdir()) / f"flannelpy-lab-{run_id}"


def known_runs() -> list[str]:
    """The folder is the first thing a lab makes and the last it removes."""
    return [path.name.rpartition("-")[2] for path in folder_of("").parent.glob(folder_of("??????").name)]


def owner_lives(run_id: str) -> bool:
    """A folder without its file has just been made, or its maker was killed in that very moment."""
    folder = folder_of(run_id)
    try:
        text = (folder / "owner").read_text()
    except FileNotFoundError:
        return folder.exists() and time.time() - folder.stat().st_mtime < 60
    return text == identity(int(text.split()[1]))


def remove_run(run_id: str) -> None:
    """By name alone, so that it also works for a lab that another process made.

    The folder goes last and only after all else: it is what a later sweep finds the rest by."""
    prefix = f"lab-{run_id}-"
    namespaces = [Namespace(path.name) for path in NAMED.glob(f"{prefix}*")]
    kill_all(f"everything of lab {run_id}", lambda: {pid for namespace in namespaces for pid in namespace.pids()})
    for namespace in namespaces:
        namespace.delete()
    cgroups.remove(prefix)
    remove_folder(folder_of(run_id))


def remove_folder(folder: Path) -> None:
    """The mounts of a machine that has just died may need a moment to go."""

    def gone() -> bool:
        for mount in mounts_below(folder):
            commands.attempt("umount", "-l", mount)
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    commands.wait_until(f"the removal of {folder}", gone, timeout=15, every=0.1)


def mounts_below(folder: Path) -> list[str]:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return [mount for mount in reversed(mounts) if mount.startswith(f"{folder}/")]


def at_once(tasks: Iterable[Callable[[], None]]) -> None:
    """Side by side; the first failure is raised when all have ended."""
    todo = list(tasks)
    if not todo:
        return
    with ThreadPoolExecutor(len(todo)) as pool:
        futures = [pool.submit(task) for task in todo]
    for future in futures:
        future.result()
