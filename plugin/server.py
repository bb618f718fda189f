"""gunicorn around the app: the socket, one worker with threads, and the agent that lives and dies with the worker.

One worker, because one agent looks after the kernel and the host's journal. Threads, because dockerd calls in
parallel. A worker that dies is replaced; the master keeps the socket open, so that dockerd's calls wait meanwhile."""

import ctypes
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.errors import HaltServer  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]
from gunicorn.sock import UnixSocket  # type: ignore[import-untyped]

from plugin.descriptors import raise_limit
from plugin.listening import Busy, Place, listen
from plugin.notify import notify
from plugin.settings import Settings, SettingsError
from plugin.watchdog import Systemd, Watchdog
from plugin.worker import Worker
from store.interface import StoreUnavailable

if TYPE_CHECKING:
    from flask import Flask

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1  # linux/prctl.h
AGAIN = 1.0  # seconds for a stand-in to give way that has a socket's place by now
# Objects made, and not gone yet, before those are looked through for garbage. A look at the kernel or an answer of the
# store makes thousands for a moment: taken for lasting, they would have all others looked through again and again.
YOUNGEST = 20_000
TURN = 0.001  # seconds a thread of the agent may keep a request waiting, each time that it comes back from the disk


def serve(settings: Settings, create: Callable[[Settings], "Flask"]) -> None:
    """Serve until SIGTERM; leaves by SystemExit, like gunicorn. `create` runs in the worker, never before the fork."""
    raise_limit()
    systemd = Systemd.take()  # else gunicorn speaks up as well
    listeners = [listen(path) for path in settings.socket]
    places = [Place(path) for path in settings.socket]
    app = _Application(options(settings, listeners, systemd), lambda: create(settings))
    _Master(app, places, systemd).run()


def options(settings: Settings, listeners: Iterable[socket.socket], systemd: Systemd) -> dict[str, Any]:
    return {
        "bind": [f"fd://{listener.detach()}" for listener in listeners],
        "workers": 1,
        "worker_class": Worker,
        "threads": 32,  # made when needed; most wait, for the kernel, the disk or another host
        "keepalive": 0,  # an idle connection closed just as dockerd reuses it makes it retry, with an empty body
        "timeout": 120,  # of a worker whose main thread hangs; requests are bounded by their handlers
        "graceful_timeout": 4,
        "control_socket_disable": True,
        "loglevel": "info" if settings.log == "debug" else settings.log,  # its debug lines are about itself
        "logger_class": _Log,
        "post_fork": _die_with_master,
        "post_worker_init": partial(_start_agent, systemd),
        "worker_exit": _stop_agent,
    }


def _die_with_master(_server: Any, _worker: Any) -> None:
    """The kernel sees to it, also for a worker that hangs and whose master systemd's watchdog has killed for that: it
    would keep the state directory from the next one. What dies so is no worse off than after a power cut."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _start_agent(systemd: Systemd, worker: Any) -> None:
    """Nothing of it waits for the store or for Docker, and `docker.service` starts after READY=1."""
    sys.setswitchinterval(TURN)
    gc.set_threshold(YOUNGEST)
    extensions = worker.wsgi.extensions
    extensions["agent"].start()
    notify(systemd.socket, "READY=1")
    extensions["watchdog"] = Watchdog(systemd, extensions["stalled"])
    extensions["watchdog"].start()


def _stop_agent(_server: Any, worker: Any) -> None:
    """gunicorn calls this for workers that never got as far as loading the app, too, and from the master."""
    app = getattr(worker, "wsgi", None)
    if app:
        if watchdog := app.extensions.get("watchdog"):
            watchdog.stop()
        app.extensions["agent"].stop()


class _Application(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: dict[str, Any], create: Callable[[], "Flask"]) -> None:
        self._settings, self._create = settings, create
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> "Flask":
        try:
            return self._create()
        except (SettingsError, StoreUnavailable) as error:  # this host's own records cannot be opened
            log.error(str(error))
            raise SystemExit(Arbiter.APP_LOAD_ERROR) from None


class _Master(Arbiter):  # type: ignore[misc]
    def __init__(self, app: _Application, places: Sequence[Place], systemd: Systemd) -> None:
        super().__init__(app)
        self._places, self._told = [*places], systemd.socket
        self._in_the_way = ""

    def start(self) -> None:
        super().start()
        self.systemd = True  # the sockets were handed in, and gunicorn fails to stop when it cannot remove their files

    def stop(self, graceful: bool = True) -> None:
        notify(self._told, "STOPPING=1")
        for place in self._places:
            place.remove()
        with suppress(HaltServer):  # a worker that could not start: that is no news any more
            super().stop(graceful)

    def manage_workers(self) -> None:
        """Each second. A socket whose file somebody removed is made anew, and with it the worker, which has the old
        one: that costs no packet, and calls wait meanwhile."""
        made = [self._listen_again(number) for number, place in enumerate(self._places) if place.is_lost()]
        if any(made):
            self.kill_workers(signal.SIGTERM)
        super().manage_workers()

    def _listen_again(self, number: int) -> bool:
        path = self._places[number].path
        try:
            listener = listen(path, patience=AGAIN)
        except Busy as error:
            if str(error) != self._in_the_way:
                log.error("the socket was removed, and cannot be made anew", extra={"why": error})
            self._in_the_way = str(error)
            return False
        log.warning("the socket was removed by somebody, and is made anew", extra={"path": path})
        self._in_the_way, self._places[number] = "", Place(path)
        self.LISTENERS[number].close()
        self.LISTENERS[number] = UnixSocket(str(path), self.cfg, self.log, fd=listener.detach())
        return True

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """gunicorn's own codes, 3 and 4, mean something else for our commands."""
        super().halt(reason, min(exit_status, 1))

    def handle_hup(self) -> None:
        """A second worker, if only for a while, would be a second agent."""
        self.log.warning("Signal ignored: settings are read at the start only, and there is one worker")

    handle_ttin = handle_usr2 = handle_hup


class _Log(Logger):  # type: ignore[misc]
    """gunicorn's own lines go where ours go, in the same form."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
