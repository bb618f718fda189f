"""Every error to a status and one sentence for the person at the `docker` prompt.

No error is a 404: to ProgramExternalConnectivity and to the IPAM's GetCapabilities that reads as "not implemented,
carry on" (moby, daemon/libnetwork/drivers/remote/driver.go)."""

import logging
from http import HTTPStatus

from flask import Flask, request
from werkzeug.exceptions import HTTPException

from cluster.dockerd import EngineUnavailable
from cluster.engine import FOR_NOW
from driver import errors as driver
from ipam import errors as ipam
from ipam.lending import NoAnswer
from plugin import descriptors
from plugin.body import MAX_BODY, Emptied, Malformed, shown
from plugin.handshake import Json, refusal
from store.interface import Contended, StoreUnavailable

log = logging.getLogger(__name__)

STATUS: dict[type[Exception], int] = {
    Malformed: 400,
    ipam.IpamError: 500,
    ipam.BadRequest: 400,
    ipam.NoSuchPool: 410,
    ipam.PoolConflict: 409,
    ipam.PoolExhausted: 409,
    ipam.AddressTaken: 409,
    driver.DriverError: 500,
    driver.BadRequest: 400,
    driver.NoSuchNetwork: 410,
    driver.NoSuchEndpoint: 410,
    driver.NetworkConflict: 409,
    driver.KernelError: 500,
    driver.NoUnderlay: 503,
    StoreUnavailable: 503,  # StoreForbidden with it
    Contended: 503,
    EngineUnavailable: 503,
}
# The same request may be granted later: by itself, or when all is well again.
PASSING = (StoreUnavailable, Contended, EngineUnavailable, NoAnswer, Emptied, driver.NoUnderlay)


def register(app: Flask) -> None:
    for kind in STATUS:
        app.register_error_handler(kind, _refuse_known)
    app.register_error_handler(HTTPException, _refuse_http)
    app.register_error_handler(Exception, _refuse_unknown)


def _refuse_known(error: Exception) -> tuple[Json, int]:
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    sentence = " ".join(str(error).split()) or f"{type(error).__name__}, without a word why"
    return _refuse(f"{sentence} {FOR_NOW}" if isinstance(error, PASSING) else sentence, status)


def _refuse_http(error: HTTPException) -> tuple[Json, int]:
    """Flask's own: wrong path, wrong method, too large."""
    match error.code:
        case 404:
            return _refuse(f"flannelpy does not know the call {_call()}", 501)
        case 405:
            return _refuse(f"{_call()} is called with POST, not {request.method}", 405)
        case 413:
            return _refuse(f"The request is larger than {MAX_BODY} bytes", 413)
        case code:
            return _refuse(f"{_call()} failed: {error.description or error.name}", code or 500)


def _refuse_unknown(error: Exception) -> tuple[Json, int]:
    if descriptors.is_for_want(error):
        return _refuse(f"{descriptors.sentence()} {FOR_NOW}", HTTPStatus.SERVICE_UNAVAILABLE)
    log.error("unexpected error", exc_info=error, extra={"call": _call()})
    return _refuse(f"{_call()} failed because of an error in flannelpy: see its log on this host", 500)


def _refuse(sentence: str, status: int) -> tuple[Json, int]:
    log.info("refused", extra={"call": _call(), "status": status, "why": sentence})
    return refusal(sentence), status


def _call() -> str:
    path = request.path
    return path if len(path) <= 80 and path.isprintable() else shown(path)
