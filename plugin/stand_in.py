"""Answers Docker in flannelpy's place while flannelpy does not run: the handshake, and a refusal to everything else.

dockerd looks for a missing driver for 15 s, for each network, before its API answers; a refusal takes no time. So this
has the plugin's socket while nobody else answers there. It gives way to a flannelpy that starts, is back if that fails,
and ends when that serves. It changes nothing: what it refused, flannelpy makes up for, as for all it missed.

Docker's start waits for it, on every host: it loads the standard library alone."""

import http.client
import json
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from http import HTTPStatus
from io import BufferedRWPair
from pathlib import Path

from plugin import client
from plugin.handshake import ACTIVATE, ANSWERS, CONTENT_TYPE, GIVE_WAY, NOT_RUNNING, refusal
from plugin.listening import Busy, Taken, listen
from plugin.log import setup
from plugin.notify import notify
from plugin.paths import SOCKET, parse_paths

log = logging.getLogger(__name__)

# As cluster/engine.py has it, "(for now)" ends what passes: flannelpy starts the containers that were refused with it.
SENTENCE = "flannelpy is not running on this host; `systemctl status flannelpy` says why (for now)"
SHORT = 1.0  # seconds to wait for somebody at the other end of a socket
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
            mine = [] if answered else _take(paths, held)
            ready()
            if answered:
                return
            if mine:
                log.warning("flannelpy is not running: Docker is refused what it asks for")
                _refuse(mine)
                log.info("flannelpy is starting")
        time.sleep(MOMENT)


def _take(paths: Sequence[Path], held: ExitStack) -> list[socket.socket]:
    """Listening sockets; none if somebody has them who does not answer yet, or not any more."""
    try:
        return [_taken(path, held) for path in paths]
    except Taken:
        return []


def _taken(path: Path, held: ExitStack) -> socket.socket:
    """Its file goes before it is closed: as long as it listens, nobody puts another there."""
    listener = held.enter_context(listen(path, patience=0))
    held.callback(path.unlink, missing_ok=True)
    return listener


def _refuse(listeners: Sequence[socket.socket]) -> None:
    """Until a flannelpy wants the sockets."""
    while True:
        for listener in select.select(listeners, [], [])[0]:
            if _answer(listener) == GIVE_WAY:
                return


def _answer(listener: socket.socket) -> str:
    """The call of one that came, even if it did not wait for the answer; empty if it made none. One at a time: none
    takes any time."""
    call = ""
    connection, _ = listener.accept()
    with suppress(OSError, http.client.HTTPException, ValueError), connection, connection.makefile("rwb") as stream:
        connection.settimeout(SHORT)
        call = _read_call(stream)
        stream.write(_reply(call))
        log.info("asked", extra={"call": call})
    return call


def _read_call(stream: BufferedRWPair) -> str:
    """All of the request is read: who closes before that breaks the answer off."""
    _, call, _ = stream.readline().split()
    stream.read(int(http.client.parse_headers(stream).get("Content-Length", "0")))
    return call.decode()


def _reply(call: str) -> bytes:
    """In HTTP 1.0, which keeps no connection: the next call shall go to whoever has the socket then."""
    known = {**ANSWERS, GIVE_WAY: {}}
    status, answer = (HTTPStatus.OK, known[call]) if call in known else (NOT_RUNNING, refusal(SENTENCE))
    body = json.dumps(answer).encode()
    lines = (
        f"HTTP/1.0 {status.value} {status.phrase}",
        f"Content-Type: {CONTENT_TYPE}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


if __name__ == "__main__":
    main()
