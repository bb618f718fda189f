"""/Plugin.Activate: which protocols this plugin speaks."""

from flask import Blueprint

from plugin import wire
from plugin.wire import Json


def blueprint() -> Blueprint:
    bp = Blueprint("Plugin", __name__)

    @bp.post("/Plugin.Activate")
    def activate() -> Json:
        return wire.implements()

    return bp
