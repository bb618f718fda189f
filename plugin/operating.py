"""The part of the composition root that is about what an operator sees: status, doctor, trace, metrics and the page."""

from dataclasses import dataclass

from operations.doctor import Doctor
from operations.metrics import Metrics
from operations.observer import Observer, Sources
from operations.tally import Tally
from operations.trace import Tracer
from operations.web import WebServer, build_app


@dataclass(frozen=True, slots=True)
class Operating:
    observer: Observer
    doctor: Doctor
    tracer: Tracer
    web: WebServer


def assemble_operating(sources: Sources, metrics: Metrics, http: tuple[str, int] | None) -> Operating:
    observer = Observer(sources)
    metrics.watch(Tally(sources, observer).counts)
    web = WebServer(build_app(observer, metrics), http)
    observer.listen(lambda: web.fault)
    return Operating(observer, Doctor(sources), Tracer(sources), web)
