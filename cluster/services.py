"""Containers that ask for it, by the label `flannelpy.consul.service=NAME[:PORT]`, are services in Consul.

What the labels say is compared with what was told, and at times with what stands in Consul: so what a crash left is
taken out, and what somebody took out is put in again."""

import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping
from functools import partial

from cluster.agent import Poked
from cluster.endpoints import Attachment
from driver.errors import KernelError
from store.catalog import Catalog, Service
from store.interface import StoreForbidden, StoreUnavailable
from store.ip import IPAddress

log = logging.getLogger(__name__)

LABEL = "flannelpy.consul.service"
FORM = re.compile(r"([a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)(?::([0-9]{1,5}))?")  # a name as DNS has it
SWEEP = 60.0  # seconds between two looks at what stands in Consul
PAUSE = 5.0  # seconds before a Consul that was away is told again


def node_of(cluster: str, host: str) -> str:
    """The node in Consul's catalog that stands for a host, and for no other: DNS asks that it be a word, and Consul
    does not tell capital letters from small ones. Where that leaves the names in doubt, something is added."""
    name = f"{cluster}-{host}"
    word = re.sub(r"[^a-z0-9-]+", "-", name.lower())
    if word == name and "-" not in cluster:
        return f"flannelpy-{word}"
    return f"flannelpy-{word}-{hashlib.sha256(f'{cluster}/{host}'.encode()).hexdigest()[:8]}"


class Services(Poked):
    def __init__(
        self,
        catalog: Catalog,
        node: str,
        address: Callable[[], IPAddress],
        attachments: Callable[[], list[Attachment] | None],
        insist: Callable[[], object],
    ) -> None:
        """`address` is this host's own; `attachments` is None as long as Docker has not been asked. `insist` raises
        StoreUnavailable if another machine lives under this host's name: the services there are that one's."""
        self._catalog, self._node, self._address, self._attachments = catalog, node, address, attachments
        self._insist = insist
        self._told: dict[str, Service] | None = None  # None: what stands there has to be looked at
        self._looked = 0.0
        self._wrong: set[str] = set()
        self._forbidden: set[str] = set()  # names of services
        self._reported = ""
        super().__init__("services")

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.is_set():
            self._news.wait(pause or SWEEP)
            self._stopping.wait(pause)
            self._news.clear()
            try:
                self.tell()
                pause = 0.0
            except (StoreUnavailable, KernelError) as error:
                self._told, pause = None, PAUSE
                self._report(str(error))
            except Exception:  # the loop must live: the next change tries again
                self._told, pause = None, PAUSE
                log.exception("telling Consul of services failed")

    def tell(self) -> None:
        """Make what stands in Consul what the labels say."""
        attachments = self._attachments()
        if attachments is None:
            return
        wanted = self._wanted(attachments)
        if self._told is None or time.monotonic() - self._looked > SWEEP:
            self._told, self._looked = self._standing(needed=bool(wanted)), time.monotonic()
        for service_id in self._told.keys() - wanted.keys():
            self._change(self._told.pop(service_id), partial(self._catalog.deregister, self._node, service_id))
        for service_id, service in wanted.items():
            if self._told.get(service_id) != service:
                register = partial(self._catalog.register, self._node, self._address(), service_id, service)
                self._change(service, register)
                self._told[service_id] = service

    def _change(self, service: Service, change: Callable[[], None]) -> None:
        """A name that the token may not write hinders no other, and is tried again when Consul is looked at again."""
        self._insist()
        try:
            change()
        except StoreForbidden as error:
            if service.name not in self._forbidden:
                log.error("a service is not as its label says", extra={"service": service.name, "why": error})
            self._forbidden.add(service.name)
        else:
            self._forbidden.discard(service.name)

    def _standing(self, *, needed: bool) -> dict[str, Service]:
        """What is registered. Who may not ask has registered nothing, and need not hear of it."""
        try:
            return dict(self._catalog.services(self._node))
        except StoreForbidden:
            if needed:
                raise
            return {}

    def _wanted(self, attachments: list[Attachment]) -> dict[str, Service]:
        wanted, wrong = services_of(attachments)
        for container, label in wrong.items():
            if container not in self._wrong:
                log.error(
                    f"the label is not {LABEL}=NAME or NAME:PORT, NAME of letters, digits and dashes",
                    extra={"container": container, "label": label},
                )
        self._wrong = set(wrong)
        return wanted

    def _report(self, why: str) -> None:
        if why != self._reported:
            log.warning("Consul is told of services later", extra={"why": why})
        self._reported = why


def services_of(attachments: list[Attachment]) -> tuple[dict[str, Service], Mapping[str, str]]:
    """The services by id, and the labels that make no sense by container. A container in several networks is known
    by its address in the first one, by name."""
    wanted: dict[str, Service] = {}
    wrong: dict[str, str] = {}
    for one in sorted(attachments, key=lambda one: one.record.network):
        label = one.labels.get(LABEL)
        if label is None or f"flannelpy-{one.record.container}" in wanted:
            continue
        found = FORM.fullmatch(label)
        port = int(found[2] or 0) if found else 0
        if found is None or port > 65535:
            wrong[one.record.name] = label
        else:
            wanted[f"flannelpy-{one.record.container}"] = Service(found[1], one.record.addresses, port)
    return wanted, wrong
