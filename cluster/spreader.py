"""Makes the networks of the cluster on this host, and tells the cluster of those that are made and removed here.

Docker and the store are asked anew before anything is done, and done by one thread: what was decided is what is true.
What this host is about to do is written down first, so that an interrupted step is never taken for the user's."""

import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

from cluster.agent import Poked
from cluster.dockerd import EngineRefused, EngineUnavailable
from cluster.engine import Event, ListedNetwork
from cluster.participation import Participation
from cluster.removals import Removals, read
from cluster.spread import TWICE, Act, Decision, Had, Here, Outcome, State, decide, standing
from store import records
from store.codec import BadRecord, decode, encode
from store.interface import ABSENT, Check, Contended, Entry, Put, Store, StoreUnavailable
from store.records import DockerNetwork, NetworkShape

log = logging.getLogger(__name__)

SWEEP, RETRY = 30.0, 3.0  # seconds to the next look when nobody says that something has changed
WAITING = (State.CONFLICT, State.AMBIGUOUS, State.FAILED)  # what is looked at again soon


class Engine(Protocol):
    def listed(self) -> list[ListedNetwork]: ...
    def has_network(self, network_id: str) -> bool: ...
    def users_of(self, network_id: str, name: str) -> list[str]: ...
    def create_network(self, shape: NetworkShape) -> str: ...
    def remove_network(self, network_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Written:
    """What the store has of one name."""

    record: DockerNetwork | None
    version: int


class Spreader(Poked):
    """A listener of Docker's events; `poke` it when the cluster's networks have changed."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        had: Participation,
        host: str,
        lease: float,
        entries: Callable[[], Mapping[str, Entry] | None],
        ours: Callable[[], Collection[str]],
        fence: Callable[[], Check],
        *,
        token: Callable[[], str] = lambda: secrets.token_hex(6),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`lease` is that of the hosts, in seconds; `entries` are the cluster's networks as last heard of; `ours` the
        ids of those that our driver has here, with addresses of our IPAM; `fence` goes into every write: what somebody
        removes on the clone of a machine, or on one that was led to another cluster, is removed nowhere else."""
        self._engine, self._store, self._had, self._host, self._fence = engine, store, had, host, fence
        self._entries, self._ours, self._token = entries, ours, token
        self._outcomes: dict[str, Outcome] = {}
        self._making: set[str] = set()  # names of networks that Docker was told to make, and has told nothing of yet
        self._removals = Removals(store, host, lease, clock)
        self._failing = False
        super().__init__("spreader")

    # --- from outside

    def resync(self) -> None:
        self._making.clear()
        self.poke()

    def event(self, event: Event) -> None:
        if event.kind == "network" and event.attributes.get("name") in self._making:
            self._making.discard(event.attributes["name"])
            if event.action == "create":
                return  # our own doing
        made_or_removed = event.kind == "network" and event.action in ("create", "destroy")
        freed = event.action in ("disconnect", "destroy") and self._any_outcome(*WAITING, State.KEPT)
        if made_or_removed or freed:
            self.poke()

    def outcomes(self) -> Mapping[str, Outcome]:
        """How it stands with each network of the cluster on this host, by name."""
        return dict(self._outcomes)

    # --- the loop

    def _run(self) -> None:
        pause = RETRY
        while not self._stopping.is_set():
            self._news.clear()
            troubled = not self._attempt() or self._any_outcome(*WAITING)
            self._news.wait(pause if troubled else SWEEP)
            pause = min(pause * 2, SWEEP) if troubled else RETRY

    def _attempt(self) -> bool:
        try:
            self.look()
        except (StoreUnavailable, Contended, EngineUnavailable) as error:
            if not self._failing:
                log.info("networks are spread later", extra={"why": error})
            self._failing = True
        except Exception:  # the loop must live: the next look tries again
            log.exception("spreading networks failed")
            self._failing = True
        else:
            self._failing = False
        return not self._failing

    def _any_outcome(self, *states: State) -> bool:
        return any(outcome.state in states for outcome in list(self._outcomes.values()))

    def look(self) -> None:
        """Compare, and do what is to be done. Raises what the store and the Engine raise."""
        entries = self._entries()
        if entries is None:
            return
        here = self._here()
        known = {record.name: record for entry in entries.values() if (record := read(entry)) is not None}
        names = {*known, *(had.name for had in self._had), *(n for n, some in here.items() if _any_ours(some))}
        decisions = {name: decide(known.get(name), self._had.get(name), here[name]) for name in names}
        for name in sorted(names, key=lambda name: (decisions[name].act is Act.CREATE, name)):
            self._settle(name, decisions[name], here[name])
        for name in set(self._outcomes) - names:
            self._note(name, None)
        self._removals.forget(entries)

    def _here(self) -> dict[str, list[Here]]:
        """Docker's networks by name. Docker first: what our driver made is in its journal before Docker lists it."""
        listed = self._engine.listed()
        host_network = next((n.id for n in listed if n.shape.name == "host" and n.shape.driver == "host"), None)
        if host_network is None:
            raise EngineUnavailable("the Docker Engine lists no network named host, which every Engine has")
        if not self._had.confirm_docker(host_network):
            log.warning("Docker's data directory is another one: its networks are made again")
        ours = self._ours()
        here = defaultdict(list)
        for network in listed:
            here[network.shape.name].append(Here(network.id, network.shape, network.id in ours))
        return here

    # --- one name

    def _settle(self, name: str, decision: Decision, here: Sequence[Here]) -> None:
        try:
            if decision.act is not Act.NOTHING or (decision.outcome and decision.outcome.state is State.UNKNOWN):
                # What was last heard may be older than what this host itself has written since.
                written = self._written(name)
                decision = decide(written.record, self._had.get(name), here)
                outcome = self._perform(name, decision, written, here)
            else:
                outcome = decision.outcome
        except (EngineUnavailable, BadRecord) as error:  # the other names need not wait for this one
            outcome = Outcome(State.FAILED, str(error))
        self._note(name, outcome)

    def _written(self, name: str) -> Written:
        entry = self._store.get(records.docker_network_key(name))
        return Written(decode(DockerNetwork, entry.value), entry.version) if entry else Written(None, ABSENT)

    def _perform(self, name: str, decision: Decision, written: Written, here: Sequence[Here]) -> Outcome | None:
        match decision:
            case Decision(Act.ANNOUNCE, Here() as network):
                return self._announce(network, written, kept=None)
            case Decision(Act.JOIN, Here() as network) if written.record:
                self._had.put(Had(name, written.record.token, network.id))
                log.info("network is the cluster's", extra={"network": name, "from": written.record.host})
                return standing(network.shape, written.record)
            case Decision(Act.CREATE) if written.record:
                return self._create(written.record)
            case Decision(Act.REMOVE, Here() as network) if written.record:
                return self._remove(network, written)
            case Decision(Act.REPLACE, Here() as network) if written.record:
                return self._replace(network, written.record)
            case Decision(Act.WITHDRAW) if written.record:
                return self._withdraw(written.record, written.version)
            case Decision(Act.THIN_OUT, Here() as network):
                return self._thin_out(network, here)
            case Decision(Act.REVIEW, Here() as network) if written.record:
                return self._review(network, written.record, written.version)
            case Decision(Act.FORGET):
                self._had.forget(name)
                self.poke()  # what it hid may be next
        return decision.outcome

    def _announce(self, network: Here, written: Written, kept: str | None) -> Outcome | None:
        shape = {f.name: getattr(network.shape, f.name) for f in fields(NetworkShape)}
        record = DockerNetwork(**shape, token=self._token(), host=self._host, kept=kept)
        if not self._write(record, written.version):
            return None
        self._had.put(Had(record.name, record.token, network.id))
        log.info("network told to all hosts", extra={"network": record.name, "pool": record.pools[0]})
        return standing(network.shape, record)

    def _create(self, record: DockerNetwork) -> Outcome:
        self._had.put(Had(record.name, record.token))
        self._making.add(record.name)
        try:
            network_id = self._engine.create_network(record)
        except EngineUnavailable as error:
            self._making.discard(record.name)
            if isinstance(error, EngineRefused):
                self._had.forget(record.name)
            raise
        self._had.put(Had(record.name, record.token, network_id))
        log.info("network of the cluster made here", extra={"network": record.name, "from": record.host})
        return standing(record, record)

    def _remove(self, network: Here, written: Written) -> Outcome | None:
        user = self._take_away(network)
        if user is not None:
            return self._announce(network, written, kept=self._kept_for(user))
        name = network.shape.name
        log.info("network removed here, as in the cluster", extra={"network": name})
        self._had.forget(name)
        return None

    def _kept_for(self, user: str) -> str:
        return f"container {user} on host {self._host} uses it"

    def _review(self, network: Here, record: DockerNetwork, version: int) -> Outcome | None:
        """Who kept it tells everybody that its container no longer uses it, and which other one does, if any."""
        if record.host != self._host:
            return standing(network.shape, record)
        reasons = [self._kept_for(user) for user in self._engine.users_of(network.id, record.name)]
        if record.kept not in reasons:
            record = replace(record, kept=next(iter(reasons), None))
            if not self._write(record, version):
                return None
        return standing(network.shape, record)

    def _replace(self, network: Here, record: DockerNetwork) -> Outcome | None:
        user = self._take_away(network)
        if user is not None:
            theirs = ", ".join(map(str, record.pools))
            why = f"host {record.host} made another network of this name, with {theirs}; here container {user} uses"
            return Outcome(State.CONFLICT, f"{why} the one with {', '.join(map(str, network.shape.pools))}")
        log.warning(
            "network replaced by the cluster's",
            extra={"network": record.name, "was": network.shape.pools[0], "now": record.pools[0], "from": record.host},
        )
        return self._create(record)

    def _thin_out(self, keep: Here, here: Sequence[Here]) -> Outcome | None:
        """One network at a time, and then another look."""
        for network in sorted((n for n in here if n.ours), key=lambda network: network.id == keep.id):
            if self._thinned(network, known=network.id == keep.id) is None:
                log.warning(
                    "network removed, Docker had its name twice",
                    extra={"network": network.shape.name, "pool": network.shape.pools[0]},
                )
                self.poke()
                return None
        return TWICE

    def _thinned(self, network: Here, *, known: bool) -> str | None:
        """See `_take_away`. The end of the one known is our doing, and no removal by the user: it is forgotten first,
        and had again if it is certain that it stays."""
        had = self._had.get(network.shape.name) if known else None
        if had is not None:
            self._had.forget(had.name)
        try:
            user = self._take_away(network)
        except EngineRefused:
            if had is not None:
                self._had.put(had)
            raise
        if had is not None and user is not None:
            self._had.put(had)
        return user

    def _take_away(self, network: Here) -> str | None:
        """Remove it from Docker, unless a container uses it, running or not: then the container's name."""
        if users := self._engine.users_of(network.id, network.shape.name):
            return users[0]
        try:
            self._engine.remove_network(network.id)
        except EngineRefused:
            if users := self._engine.users_of(network.id, network.shape.name):
                return users[0]
            raise
        return None

    def _withdraw(self, record: DockerNetwork, version: int) -> Outcome | None:
        had = self._had.get(record.name)
        if had is None or had.network_id is None or self._engine.has_network(had.network_id):
            return None  # a list that lacks it is not enough to remove it from every host
        if self._write(replace(record, host=self._host, removed=True, kept=None), version):
            self._had.forget(record.name)
            log.info("removal of a network told to all hosts", extra={"network": record.name})
        return None

    def _write(self, record: DockerNetwork, version: int) -> bool:
        """False, and another look at it all, if another host was faster, or this one has just beaten."""
        if self._store.commit(self._fence(), Put(records.docker_network_key(record.name), encode(record), version)):
            return True
        self.poke()
        return False

    # --- what people see, and what is forgotten

    def _note(self, name: str, outcome: Outcome | None) -> None:
        if outcome == self._outcomes.get(name):
            return
        if outcome is None:
            del self._outcomes[name]
            return
        self._outcomes[name] = outcome
        if outcome.state is not State.SPREAD:
            log.warning(f"network {outcome.state.value}", extra={"network": name, "why": outcome.why})


def _any_ours(some: Sequence[Here]) -> bool:
    return any(network.ours for network in some)
