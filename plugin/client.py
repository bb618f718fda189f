"""Asks a running flannelpy on its plugin socket."""

import http.client
import json
import socket
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from plugin.handshake import NOT_RUNNING

TIMEOUT = 30.0  # seconds


class NotRunning(Exception):
    """Nobody answers on the socket, or the stand-in does."""


class NotAllowed(Exception):
    """The socket is root's."""


class Refused(Exception):
    """flannelpy's own sentence why not."""


class NotNow(Refused):
    """It could not ask the store or Docker."""


class UnknownCall(Exception):
    """The one that runs is of a version that lacks it."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("flannelpy", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def grants(path: Path, call: str, timeout: float) -> bool:
    """Whether somebody there does what the call asks for, within so many seconds."""
    try:
        _ask(path, call, {}, timeout)
    except (NotRunning, NotAllowed, Refused, UnknownCall):
        return False
    return True


def ask(path: Path, call: str, **arguments: str) -> Any:
    """POST a call with its arguments; its JSON."""
    return _ask(path, call, arguments, TIMEOUT)


def _ask(path: Path, call: str, arguments: Mapping[str, str], timeout: float) -> Any:
    connection = _Connection(path, timeout)
    try:
        connection.request("POST", call, body=json.dumps(arguments))
        answer = connection.getresponse()
        body = json.loads(answer.read())
    except PermissionError:
        raise NotAllowed("only root may ask flannelpy: use sudo") from None
    except TimeoutError as error:
        raise NotRunning(f"flannelpy runs, and has not answered in {timeout:.0f} s: see its log") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise NotRunning(
            f"flannelpy does not answer on {path} ({why}): start it, or name its socket with --socket"
        ) from error
    finally:
        connection.close()
    if answer.status == NOT_RUNNING:
        raise NotRunning(body["Err"])
    if answer.status == HTTPStatus.NOT_IMPLEMENTED:
        raise UnknownCall(call)
    if answer.status != HTTPStatus.OK:
        refusal = NotNow if answer.status == HTTPStatus.SERVICE_UNAVAILABLE else Refused
        raise refusal(body.get("Err", f"status {answer.status}"))
    return body
