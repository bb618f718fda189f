"""Answers Docker in flannelpy's place while flannelpy does not run: the handshake, and a refusal to everything else.

dockerd looks for a missing driver for 15 s, for each network, before its API answers; a refusal takes no time. So this
has the plugin's socket while nobody else answers there. It gives way to a flannelpy that starts, is back if that fails,
and ends when that serves. It changes nothing: what it refused, flannelpy makes up for, as for all it missed.

Docker's start waits for it, on every host: it loads the standard library alone."""

import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from plugin import client
from plugin.handshake import ACTIVATE, GIVE_WAY, NOT_RUNNING
from plugin.listening import Busy, Place, Taken, listen
from plugin.log import setup
from plugin.notify import notify
from plugin.paths import SOCKET, parse_paths
from plugin.refusing import SHORT, answer

log = logging.getLogger(__name__)

# As cluster/engine.py has it, "(for now)" ends what passes: flannelpy starts the containers that were refused with it.
SENTENCE = "flannelpy is not running on this host; `systemctl status flannelpy` says why (for now)"
LOOK = 1.0  # seconds between two looks whether the sockets' files are there
MOMENT = 0.1  # seconds until the one that it gave way to has the socket


def main() -> None:
    setup("info")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    told = os.environ.get("NOTIFY_SOCKET")
    try:
        stand_in(sockets(os.environ), lambda: notify(told, "READY=1"))
    except Busy as error:
        sys.exit(str(error))


def sockets(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where flannelpy would be. If that is the setting that is wrong, where Docker looks for it."""
    try:
        return parse_paths(environ.get("FLANNELPY_SOCKET", SOCKET))
    except ValueError:
        return parse_paths(SOCKET)


def stand_in(paths: Sequence[Path], ready: Callable[[], None]) -> None:
    """Until a flannelpy answers. `ready` is called once Docker may start: it will not look for long."""
    while True:
        answered = any(client.grants(path, ACTIVATE, timeout=SHORT) for path in paths)
        with ExitStack() as held:
            mine = {} if answered else _take(paths, held)
            ready()
            if answered:
                return
            if mine:
                log.warning("flannelpy is not running: Docker is refused what it asks for")
                log.info(_refuse(mine))
        time.sleep(MOMENT)


def _take(paths: Sequence[Path], held: ExitStack) -> dict[socket.socket, Place]:
    """Listening sockets; none if somebody has them who does not answer yet, or not any more."""
    try:
        return dict(_taken(path, held) for path in paths)
    except Taken:
        return {}


def _taken(path: Path, held: ExitStack) -> tuple[socket.socket, Place]:
    """Its file goes before it is closed: as long as it listens, nobody puts another there."""
    listener = held.enter_context(listen(path, patience=0))
    place = Place(path)
    held.callback(place.remove)
    return listener, place


def _refuse(listeners: Mapping[socket.socket, Place]) -> str:
    """Until a flannelpy wants the sockets, or nobody finds them any more; which of both. One call at a time: none takes
    any time."""
    while not any(place.is_lost() for place in listeners.values()):
        for listener in select.select(listeners, [], [], LOOK)[0]:
            if answer(listener, SENTENCE, NOT_RUNNING, {GIVE_WAY: {}}) == GIVE_WAY:
                return "flannelpy is starting"
    return "somebody has removed the socket"


if __name__ == "__main__":
    main()
