"""Tells everybody which containers this host has in our networks, and what they are called.

What Docker calls them is asked after each of its events; which endpoints there are, the driver knows first, so a
container that stops is gone before Docker says so. Docker drops events, and says nothing, for a listener that is slow:
so now and then, and after each connection, a list of all containers shows which are not as they were last seen.

Docker answers a question about a container that starts only when it has started, and one about a container that hangs
not at all. So several are asked at once, and what was not answered is asked again on threads of its own: containers
that hang keep others waiting once, for as long as an answer may take. What is not answered stands as it stood. What
should stand in the store is compared with what the directory has seen there: whatever was missed is made good by the
next comparison."""

import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from cluster.agent import Poked
from cluster.dockerd import EngineUnavailable
from cluster.engine import EngineContainer, Event, Glance
from driver.errors import NoSuchNetwork
from driver.journal import Journal
from driver.model import Endpoint
from store import records
from store.codec import BadRecord, decode, encode
from store.interface import ABSENT, Change, Check, Contended, Delete, Entry, Put, Store, StoreUnavailable

log = logging.getLogger(__name__)

COALESCE = 0.05  # seconds in which changes become one write
SWEEP = 30.0  # seconds between two comparisons, with the store and with Docker, when nothing is heard
PAUSE = 2.0  # seconds before a store or an Engine that was away is tried again
RACE = 0.1  # seconds after which a write that lost a race is tried again
NOW = 0.0  # of the monotonic clock: at once
AT_ONCE = 8  # questions to the Engine
BATCH = 30  # changes in one transaction
LABEL_BYTES = 1024  # of one endpoint's labels: every host hears of them
OURS = "flannelpy."


@dataclass(frozen=True, slots=True)
class Attachment:
    key: str
    record: records.Endpoint
    labels: Mapping[str, str]  # the container's


class Engine(Protocol):
    def running(self) -> Mapping[str, Glance]: ...
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
        self._lock = threading.Lock()  # of the next seven
        self._list_at, self._listed = NOW, False  # when all is to be asked for; whether it was, at least once
        self._suspects: set[str] = set()  # containers to ask about
        self._in_question: set[str] = set()  # asked about at this moment
        self._unanswered: set[str] = set()  # asked about without an answer
        self._unheard: set[str] = set()  # of those that ran at the start, the ones without an answer yet
        self._containers: dict[str, EngineContainer] = {}
        self._not_before = 0.0
        self._asking = ThreadPoolExecutor(AT_ONCE, "endpoints-ask")
        self._asking_again = ThreadPoolExecutor(AT_ONCE, "endpoints-ask-again")
        super().__init__("endpoints")

    def stop(self) -> None:
        super().stop()
        for asking in (self._asking, self._asking_again):
            asking.shutdown(wait=False, cancel_futures=True)

    # what Docker tells

    def resync(self) -> None:
        with self._lock:
            self._list_at = NOW
        self._news.set()

    def event(self, event: Event) -> None:
        container = event.id if event.kind == "container" else event.attributes.get("container")
        if not container or event.action not in ("start", "die", "rename", "connect", "disconnect"):
            return
        ended = event.action in ("die", "disconnect")
        with self._lock:
            if not ended or self._may_be_here(container):
                self._suspects.add(container)
            elif event.action == "die":
                self._containers.pop(container, None)
        self._ask()
        self._news.set()

    def _may_be_here(self, container_id: str) -> bool:
        """Whether only Docker knows if a container that ended, or left a network, still has something of ours."""
        if container_id in self._in_question | self._unheard:
            return True
        ours = {endpoint.id for endpoint in self._journal.all_endpoints()}
        known = self._containers.get(container_id)
        return known is not None and any(attached.id in ours for attached in known.endpoints)

    # what is

    def own(self) -> dict[str, records.Endpoint] | None:
        """The records that this host should have, by key; None as long as Docker has not been asked."""
        attachments = self.attachments()
        return None if attachments is None else {one.key: one.record for one in attachments}

    def attachments(self) -> list[Attachment] | None:
        with self._lock:
            if not self._listed:
                return None
            containers, unheard = list(self._containers.values()), bool(self._unheard)
        found = list(self._attached(containers))
        return [*found, *self._standing({one.key for one in found})] if unheard else found

    def _attached(self, containers: Collection[EngineContainer]) -> Iterator[Attachment]:
        ours = {endpoint.id: endpoint for endpoint in self._journal.all_endpoints()}
        for container in containers:
            for attached in container.endpoints:
                endpoint = ours.get(attached.id)
                key = self._key(endpoint) if endpoint else None
                if endpoint is None or key is None:
                    continue
                yield Attachment(
                    key,
                    records.Endpoint(
                        container.id[:12],
                        container.name,
                        attached.names,
                        attached.network,
                        endpoint.addresses,
                        endpoint.mac,
                        container.image,
                        told_labels(container.labels),
                    ),
                    container.labels,
                )

    def _standing(self, known: Collection[str]) -> Iterator[Attachment]:
        """What this host has told before, of endpoints that the driver has and Docker has not spoken of yet."""
        stands = self._stands() or {}
        for endpoint in self._journal.all_endpoints():
            key = self._key(endpoint)
            if key is None or key in known or key not in stands:
                continue
            with suppress(BadRecord):
                yield Attachment(key, (record := decode(records.Endpoint, stands[key].value)), dict(record.labels))

    def _key(self, endpoint: Endpoint) -> str | None:
        try:
            pool = self._journal.network(endpoint.network_id).pools[0]
        except NoSuchNetwork:
            return None  # deleted a moment ago
        return records.endpoint_key(pool, self._host, endpoint.id)

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
        if self._list_at == NOW or self._suspects or self._in_question:
            return PAUSE
        return max(self._list_at - time.monotonic(), 0.0)

    def _attempt(self, act: Callable[[], None], otherwise: str) -> None:
        try:
            act()
        except (StoreUnavailable, Contended, EngineUnavailable) as error:
            log.debug(otherwise, extra={"why": error})
        except Exception:  # the loop must live: the next round tries again
            log.exception(otherwise)

    def _look(self) -> None:
        with self._lock:
            due = time.monotonic() >= self._list_at
            self._list_at = time.monotonic() + SWEEP if due else self._list_at
            before = dict(self._containers)
        if due:
            try:
                self._list(before)
            except BaseException:
                self._list_at = NOW
                raise
        self._ask()

    def _list(self, before: Mapping[str, EngineContainer]) -> None:
        """Forget those of the containers known before that do not run, and ask about those that are not as they were
        last seen: at first about all. One that Docker has spoken of meanwhile was started since the list was made."""
        listed = self._engine.running()
        with self._lock:
            for container in before.keys() - listed.keys():
                if self._containers.get(container) is before[container]:
                    del self._containers[container]
            changed = {one for one, glance in listed.items() if not glance.shows(self._containers.get(one))}
            self._suspects |= changed if self._listed else listed.keys()
            self._unheard = self._unheard & listed.keys() if self._listed else set(listed)
            self._listed = True

    def _ask(self) -> None:
        """About all suspects, without waiting for an answer."""
        if self._stopping.is_set():
            return
        with self._lock:
            asked = self._suspects - self._in_question
            self._suspects -= asked
            self._in_question |= asked
            again = asked & self._unanswered
        for container in asked:
            (self._asking_again if container in again else self._asking).submit(self._inspect, container)

    def _inspect(self, container_id: str) -> None:
        """Without an answer it is asked about again, and alone."""
        try:
            found = self._engine.container(container_id)
        except Exception as error:
            if not isinstance(error, EngineUnavailable):
                log.exception("a container was not understood", extra={"container": container_id})
            with self._lock:
                self._in_question.discard(container_id)
                self._unanswered.add(container_id)
                self._suspects.add(container_id)  # PAUSE goes by: nobody is poked
            return
        with self._lock:
            for waiting in (self._in_question, self._unanswered, self._unheard):
                waiting.discard(container_id)
            self._containers.pop(container_id, None)
            if found is not None and found.endpoints:
                self._containers[container_id] = found
        self._news.set()

    def _write(self) -> None:
        own, stands = self.own(), self._stands()
        if own is None or stands is None:
            return
        changes = list(difference(own, stands))
        self._not_before = time.monotonic() + PAUSE  # unless it works
        batches = [changes[start : start + BATCH] for start in range(0, len(changes), BATCH)]
        done = sum(self._store.commit(self._fence(), *batch) for batch in batches)  # one lost race stops no other
        self._not_before = 0.0 if done == len(batches) else time.monotonic() + RACE


def told_labels(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Sorted. Of more than LABEL_BYTES, those that we know come first, and what does not fit is left out."""
    told, room = [], LABEL_BYTES
    for pair in sorted(labels.items(), key=lambda pair: (not pair[0].startswith(OURS), pair)):
        size = len(json.dumps(pair))
        if size <= room:
            told.append(pair)
            room -= size
    return tuple(sorted(told))


def difference(own: Mapping[str, records.Endpoint], stands: Mapping[str, Entry]) -> Iterator[Change]:
    """What to write so that the store has exactly our records."""
    for key, record in own.items():
        value, entry = encode(record), stands.get(key)
        if entry is None or entry.value != value:
            yield Put(key, value, entry.version if entry else ABSENT)
    for key, entry in stands.items():
        if key not in own:
            yield Delete(key, entry.version)
