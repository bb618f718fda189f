"""Asks a running flannelpy on its plugin socket."""

import http.client
import json
import socket
from http import HTTPStatus
from pathlib import Path
from typing import Any

TIMEOUT = 30.0  # seconds


class NotRunning(Exception):
    """Nobody answers on the socket."""


class NotAllowed(Exception):
    """The socket is root's."""


class Refused(Exception):
    """flannelpy's own sentence why not."""


class NotNow(Refused):
    """It could not ask the store or Docker."""


class UnknownCall(Exception):
    """The one that runs is of a version that lacks it."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("flannelpy", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, call: str, **arguments: str) -> Any:
    """POST a call with its arguments; its JSON."""
    connection = _Connection(path)
    try:
        connection.request("POST", call, body=json.dumps(arguments))
        answer = connection.getresponse()
        body = json.loads(answer.read())
    except PermissionError:
        raise NotAllowed("only root may ask flannelpy: use sudo") from None
    except TimeoutError as error:
        raise NotRunning(f"flannelpy runs, and has not answered in {TIMEOUT:.0f} s: see its log") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise NotRunning(
            f"flannelpy does not answer on {path} ({why}): start it, or name its socket with --socket"
        ) from error
    finally:
        connection.close()
    if answer.status == HTTPStatus.NOT_IMPLEMENTED:
        raise UnknownCall(call)
    if answer.status != HTTPStatus.OK:
        refusal = NotNow if answer.status == HTTPStatus.SERVICE_UNAVAILABLE else Refused
        raise refusal(body.get("Err", f"status {answer.status}"))
    return body
