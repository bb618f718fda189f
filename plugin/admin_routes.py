"""What the operator's commands ask of a running flannelpy, on the plugin's own socket."""

from typing import TypeVar

from flask import Blueprint, request

from driver.errors import BadRequest
from operations.lookup import Lookups
from operations.visit import Visits
from plugin import addresses, admin
from plugin.handshake import Json
from plugin.parts import Parts
from store.codec import BadRecord, decode, encode
from store.ip import IPAddress

T = TypeVar("T")


def blueprint(parts: Parts) -> Blueprint:
    bp = Blueprint("Flannelpy", __name__)

    @bp.post("/Flannelpy.Garbage")
    def garbage() -> Json:
        return {"Found": [str(item) for item in parts.collector.look()], "Freed": parts.collector.freed}

    @bp.post("/Flannelpy.Collect")
    def collect() -> Json:
        return {"Found": [str(item) for item in parts.collector.collect()], "Freed": parts.collector.freed}

    @bp.post("/Flannelpy.Leave")
    def leave() -> Json:
        return {"Host": admin.leave(parts)}

    @bp.post("/Flannelpy.Status")
    def status() -> Json:
        return {"Status": parts.operating.observer.status()}

    @bp.post("/Flannelpy.Hosts")
    def hosts() -> Json:
        return {"Hosts": parts.operating.observer.hosts()}

    @bp.post("/Flannelpy.Networks")
    def networks() -> Json:
        return {"Networks": parts.operating.observer.networks()}

    @bp.post("/Flannelpy.Addresses")
    def addresses_() -> Json:
        wanted = _wanted_address()
        found = parts.operating.observer.addresses(wanted)
        holder = parts.operating.observer.holder(wanted) if wanted is not None and not found else []
        return {"Addresses": found, "Blocks": [{"space": s, "block": b, "host": h} for s, b, h in holder]}

    @bp.post("/Flannelpy.Questions")
    def questions() -> Json:
        return {"Questions": encode(parts.operating.doctor.questions()).decode()}

    @bp.post("/Flannelpy.Doctor")
    def doctor() -> Json:
        return {"Diagnosis": parts.operating.doctor.diagnose(_told(Lookups, "Lookups").lookups)}

    @bp.post("/Flannelpy.Doors")
    def doors() -> Json:
        return {"Doors": encode(parts.operating.tracer.doors(_text("From"), _text("To"))).decode()}

    @bp.post("/Flannelpy.Trace")
    def trace() -> Json:
        return {"Trace": parts.operating.tracer.trace(_text("From"), _text("To"), _told(Visits, "Visits"))}

    return bp


def _text(name: str) -> str:
    return str((request.get_json(force=True, silent=True) or {}).get(name, ""))


def _told(kind: type[T], name: str) -> T:
    """What the command saw on our behalf."""
    try:
        return decode(kind, _text(name).encode())
    except BadRecord as error:
        raise BadRequest(f"{name}: {error}") from None


def _wanted_address() -> IPAddress | None:
    text = (request.get_json(force=True, silent=True) or {}).get("Address")
    if text is None:
        return None
    try:
        return addresses.address(str(text))
    except ValueError as error:
        raise BadRequest(f"{text!r} {error}") from None
