"""The HTTP application: the blueprints, the error handlers, and what runs beside them. Nothing starts here."""

import logging
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Protocol

from flask import Flask, Response, g, request
from flask.json.provider import DefaultJSONProvider

from plugin import activation, admin_routes, errors, ipam_routes, network_routes
from plugin.body import MAX_BODY
from plugin.handshake import CONTENT_TYPE
from plugin.ipam_routes import Ipam
from plugin.network_routes import NetworkDriver
from plugin.parts import assemble
from plugin.settings import Settings

log = logging.getLogger(__name__)


Tell = Callable[[str, float, bool], None]


class Beside(Protocol):
    """What runs beside the requests; plugin/server.py starts it once the worker is there."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


class _PluginJson(DefaultJSONProvider):
    mimetype = CONTENT_TYPE


class _PluginApp(Flask):
    json_provider_class = _PluginJson


def create_app(settings: Settings) -> Flask:
    parts = assemble(settings)
    app = build_app(parts.ipam, parts.driver, parts.agent, parts.metrics.request, parts.operating.observer.stalled)
    app.register_blueprint(admin_routes.blueprint(parts))
    return app


def build_app(
    ipam: Ipam,
    driver: NetworkDriver,
    agent: Beside,
    tell: Tell = lambda *_: None,
    stalled: Callable[[], Sequence[str]] = list,
) -> Flask:
    """`tell` hears of every answer: the call, the seconds it took, and whether it was refused. `stalled` gives the
    agent's loops that stand still, in sentences."""
    app = _PluginApp(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.register_blueprint(activation.blueprint())
    app.register_blueprint(network_routes.blueprint(driver))
    app.register_blueprint(ipam_routes.blueprint(ipam))
    errors.register(app)
    app.before_request(_note_time)
    app.after_request(lambda response: _told(response, tell))
    app.extensions["agent"] = agent
    app.extensions["stalled"] = stalled
    return app


def _note_time() -> None:
    g.began = time.monotonic()


def _told(response: Response, tell: Tell) -> Response:
    took = time.monotonic() - g.began
    log.debug("answered", extra={"call": request.path, "status": response.status_code, "ms": round(took * 1000, 1)})
    if request.endpoint is not None:  # else anybody could make up names
        tell(request.path.strip("/"), took, response.status_code != HTTPStatus.OK)
    return response
