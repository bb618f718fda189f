"""Answers Docker's calls by hand where flannelpy cannot: those with which Docker gets to know a driver, and all else
with one sentence. One at a time; it takes one file descriptor, and Python's standard library alone."""

import http.client
import json
import logging
import socket
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from io import BufferedRWPair

from plugin.handshake import ANSWERS, CONTENT_TYPE, Json, refusal

log = logging.getLogger(__name__)

SHORT = 1.0  # seconds to wait for somebody at the other end of a socket


def answer(listener: socket.socket, sentence: str, status: HTTPStatus, also: Mapping[str, Json]) -> str:
    """The call of one that came, even if it did not wait for the answer; empty if it made none. OSError if nobody did,
    or for want of a descriptor. `also` are calls to be granted."""
    call = ""
    connection, _ = listener.accept()
    with suppress(OSError, http.client.HTTPException, ValueError), connection, connection.makefile("rwb") as stream:
        connection.settimeout(SHORT)
        call = _read_call(stream)
        known = {**ANSWERS, **also}
        granted = call in known
        stream.write(_reply(*(HTTPStatus.OK, known[call]) if granted else (status, refusal(sentence))))
        log.info("asked", extra={"call": call})
    return call


def _read_call(stream: BufferedRWPair) -> str:
    """All of the request is read: who closes before that breaks the answer off."""
    _, call, _ = stream.readline().split()
    stream.read(int(http.client.parse_headers(stream).get("Content-Length", "0")))
    return call.decode()


def _reply(status: HTTPStatus, said: Json) -> bytes:
    """In HTTP 1.0, which keeps no connection: the next call shall go to whoever has the socket then."""
    body = json.dumps(said).encode()
    lines = (
        f"HTTP/1.0 {status.value} {status.phrase}",
        f"Content-Type: {CONTENT_TYPE}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body
