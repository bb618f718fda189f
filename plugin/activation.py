"""The calls of the handshake, whose answers are always the same."""

from functools import partial

from flask import Blueprint

from plugin.handshake import ANSWERS


def blueprint() -> Blueprint:
    bp = Blueprint("Handshake", __name__)
    for call, answer in ANSWERS.items():
        name = call.strip("/").replace(".", "_")
        bp.add_url_rule(call, name, partial(dict, answer), methods=["POST"])
    return bp
