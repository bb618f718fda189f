"""Tells everybody which containers this host has in our networks, and what they are called.

What Docker calls them is asked after each of its events; which endpoints there are, the driver knows first, so a
container that stops is gone before Docker says so. What should stand in the store is compared with what the directory
has seen there: whatever was missed is made good by the next comparison."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from cluster.agent import Poked
from cluster.dockerd import EngineContainer, EngineUnavailable, Event
from driver.errors import NoSuchNetwork
from driver.journal import Journal
from store import records
from store.codec import encode
from store.interface import ABSENT, Change, Check, Contended, Delete, Entry, Put, Store, StoreUnavailable

log = logging.getLogger(__name__)

COALESCE = 0.05  # seconds in which changes become one write
SWEEP = 30.0  # seconds between two comparisons when nothing is heard
PAUSE = 2.0  # seconds before a store or an Engine that was away is tried again
RACE = 0.1  # seconds after which a write that lost a race is tried again
AT_ONCE = 4  # questions to the Engine, which answers one about a container that starts only when it has started
BATCH = 30  # changes in one transaction


@dataclass(frozen=True, slots=True)
class Attachment:
    key: str
    record: records.Endpoint
    labels: Mapping[str, str]  # the container's


class Engine(Protocol):
    def running(self) -> Collection[str]: ...
    def container(self, container_id: str) -> EngineContainer | None: ...


class Endpoints(Poked):
    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        store: Store,
        host: str,
        stands: Callable[[], Mapping[str, Entry] | None],
        fence: Callable[[], Check],
        changed: Callable[[], object],
    ) -> None:
        """`stands` gives this host's records as the directory has them; `fence` goes into every write; `changed` is
        called when `own` may have. To be poked when the journal, or what stands in the store, has changed."""
        self._engine, self._journal, self._store, self._host = engine, journal, store, host
        self._stands, self._fence, self._changed = stands, fence, changed
        self._containers: dict[str, EngineContainer] | None = None  # None until the Engine was asked for all
        self._lock = threading.Lock()
        self._suspects: set[str] = set()
        self._all = True
        self._not_before = 0.0
        self._asking = ThreadPoolExecutor(AT_ONCE, "endpoints-ask")
        super().__init__("endpoints")

    def stop(self) -> None:
        super().stop()
        self._asking.shutdown(wait=False, cancel_futures=True)

    # what Docker tells

    def resync(self) -> None:
        with self._lock:
            self._all = True
        self._news.set()

    def event(self, event: Event) -> None:
        container = event.id if event.kind == "container" else event.attributes.get("container")
        if container and event.action in ("start", "die", "rename", "connect", "disconnect"):
            with self._lock:
                self._suspects.add(container)
            self._news.set()

    # what is

    def own(self) -> dict[str, records.Endpoint] | None:
        """The records that this host should have, by key; None as long as Docker has not been asked."""
        attachments = self.attachments()
        return None if attachments is None else {one.key: one.record for one in attachments}

    def attachments(self) -> list[Attachment] | None:
        containers = self._containers
        return None if containers is None else list(self._attached(list(containers.values())))

    def _attached(self, containers: Collection[EngineContainer]) -> Iterator[Attachment]:
        ours = {endpoint.id: endpoint for endpoint in self._journal.all_endpoints()}
        for container in containers:
            for attached in container.endpoints:
                endpoint = ours.get(attached.id)
                if endpoint is None:
                    continue
                try:
                    pool = self._journal.network(endpoint.network_id).pools[0]
                except NoSuchNetwork:
                    continue  # deleted a moment ago
                yield Attachment(
                    records.endpoint_key(pool, self._host, endpoint.id),
                    records.Endpoint(
                        container.id[:12],
                        container.name,
                        attached.names,
                        attached.network,
                        endpoint.addresses,
                        endpoint.mac,
                        container.image,
                    ),
                    container.labels,
                )

    # the loop

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._news.wait(self._patience())
            if self._stopping.wait(COALESCE):
                return
            self._news.clear()
            self._attempt(self._look, "names of containers are asked later")
            self._changed()
            if time.monotonic() >= self._not_before:
                self._attempt(self._write, "containers are told later")

    def _patience(self) -> float:
        """Seconds until something is tried again."""
        if self._not_before:
            return max(self._not_before - time.monotonic(), 0.0)
        return PAUSE if self._all or self._suspects else SWEEP

    def _attempt(self, act: Callable[[], None], otherwise: str) -> None:
        try:
            act()
        except (StoreUnavailable, Contended, EngineUnavailable) as error:
            log.debug(otherwise, extra={"why": error})
        except Exception:  # the loop must live: the next round tries again
            log.exception(otherwise)

    def _look(self) -> None:
        with self._lock:
            everything, suspects = self._all, self._suspects
            self._all, self._suspects = False, set()
        try:
            asked = set(self._engine.running()) if everything else suspects
            found = list(self._asking.map(self._engine.container, asked)) if asked else []
        except BaseException:
            with self._lock:
                self._all, self._suspects = self._all or everything, self._suspects | suspects
            raise
        known = {} if everything or self._containers is None else self._containers
        kept = {key: container for key, container in known.items() if key not in asked}
        if everything or self._containers is not None:
            self._containers = kept | {c.id: c for c in found if c is not None and c.endpoints}

    def _write(self) -> None:
        own, stands = self.own(), self._stands()
        if own is None or stands is None:
            return
        changes = list(difference(own, stands))
        self._not_before = time.monotonic() + PAUSE  # unless it works
        batches = [changes[start : start + BATCH] for start in range(0, len(changes), BATCH)]
        done = sum(self._store.commit(self._fence(), *batch) for batch in batches)  # one lost race stops no other
        self._not_before = 0.0 if done == len(batches) else time.monotonic() + RACE


def difference(own: Mapping[str, records.Endpoint], stands: Mapping[str, Entry]) -> Iterator[Change]:
    """What to write so that the store has exactly our records."""
    for key, record in own.items():
        value, entry = encode(record), stands.get(key)
        if entry is None or entry.value != value:
            yield Put(key, value, entry.version if entry else ABSENT)
    for key, entry in stands.items():
        if key not in own:
            yield Delete(key, entry.version)
