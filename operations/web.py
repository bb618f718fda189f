"""Health, metrics, the status API and the page over HTTP, for this host's own eyes: read-only, on FLANNELPY_HTTP."""

import logging
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Flask, Response, jsonify, request
from waitress import wasyncore
from waitress.server import create_server

from ipam.errors import IpamError
from operations import browser
from operations.metrics import CONTENT_TYPE, Metrics
from operations.observer import Observer
from operations.overview import Overviews
from store.interface import StoreUnavailable

log = logging.getLogger(__name__)

THREADS = 4
MOST_LOOKS = 2  # of them that may ask the store and Docker, each of which may hang; a look for the page is a third
STOPPING = 1  # seconds for answers that are under way


def build_app(observer: Observer, metrics: Metrics) -> Flask:
    app = Flask(__name__, static_folder=None)
    overviews = Overviews(observer)
    browser.serve_page(app)
    _serve_looks(app, observer)

    @app.get("/healthz")
    def healthz() -> Response:
        """Alive: the loops run."""
        return _health(observer.stalled())

    @app.get("/readyz")
    def readyz() -> Response:
        """Fit to serve: reconciled, and the store answers or this host has addresses of its own."""
        return _health([*observer.stalled(), *observer.unready()])

    @app.get("/metrics")
    def scrape() -> Response:
        return Response(metrics.text(), content_type=CONTENT_TYPE)

    @app.get("/api/status")
    def status() -> Response:
        return jsonify(observer.status())

    @app.get("/api/overview")
    def overview() -> Response:
        return _json(overviews.overview())

    @app.get("/api/containers")
    def containers() -> Response:
        """`?find=TEXT`. As of the last overview."""
        return _json(overviews.containers(request.args.get("find", "")))

    @app.errorhandler(StoreUnavailable)
    @app.errorhandler(IpamError)
    def unavailable(error: Exception) -> tuple[Response, int]:
        return jsonify(error=str(error)), 503

    return app


def _serve_looks(app: Flask, observer: Observer) -> None:
    """What may ask the store and Docker."""
    looks = threading.BoundedSemaphore(MOST_LOOKS)

    def looked(look: Callable[[], object]) -> Response:
        """One thread is left for health and metrics, whatever the others wait for."""
        if not looks.acquire(blocking=False):
            answer = jsonify(error=f"{MOST_LOOKS} such questions are being answered already: ask again")
            answer.status_code = HTTPStatus.SERVICE_UNAVAILABLE
            return answer
        try:
            return jsonify(look())
        finally:
            looks.release()

    @app.get("/api/hosts")
    def hosts() -> Response:
        return looked(observer.hosts)

    @app.get("/api/networks")
    def networks() -> Response:
        return looked(observer.networks)

    @app.get("/api/addresses")
    def addresses() -> Response:
        return looked(observer.addresses)


def _json(answer: object) -> Response:
    """Flask's own way takes thirty times as long for what a large cluster holds."""
    return Response(msgspec.json.encode(answer), content_type="application/json")


def _health(why_not: list[str]) -> Response:
    return Response("\n".join(why_not or ["ok"]) + "\n", status=503 if why_not else 200, content_type="text/plain")


class WebServer:
    """Worker of the agent. An address that is taken does not keep the networks from working: it is a problem of
    `flannelpy status`, and left."""

    def __init__(self, app: Flask, address: tuple[str, int] | None) -> None:
        self._app, self._address = app, address
        self._server: Any = None  # of no one class, and its stubs lack half of it
        self._thread: threading.Thread | None = None
        self._connections: dict[int, Any] = {}
        self.fault = ""

    def start(self) -> None:
        if self._address is None:
            return
        host, port = self._address
        try:
            self._server = create_server(
                self._app,
                host=host,
                port=port,
                threads=THREADS,
                ident=None,
                map=self._connections,
                asyncore_use_poll=True,  # select() knows no descriptor beyond 1023
            )
        except OSError as error:
            self.fault = f"FLANNELPY_HTTP is {host}:{port}: no health, metrics or page there ({error.strerror})"
            log.error(self.fault)
            wasyncore.close_all(self._connections)  # what was opened before it failed
            return
        self._thread = threading.Thread(target=self._server.run, name="web", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self._server.task_dispatcher.shutdown(timeout=STOPPING)  # else an answer under way fails with a traceback
            trigger = self._server.trigger
            with trigger.lock:  # else another's pull may close it before this one is written
                trigger.thunks.append(self._close)
                trigger.pull_trigger()
            self._thread.join(STOPPING)

    def _close(self) -> None:
        """In the server's own thread, which ends with the last; else it would wait on a closed descriptor."""
        wasyncore.close_all(self._connections)
