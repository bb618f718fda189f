"""The part of the composition root that is about Docker's networks being alike on all hosts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cluster.abstainer import Abstainer
from cluster.agent import Worker
from cluster.dockerd import Dockerd, EngineUnavailable
from cluster.events import Listener
from cluster.following import Following
from cluster.participation import Participation
from cluster.spread import Outcome
from cluster.spreader import Spreader
from driver.journal import Journal
from plugin.settings import Settings
from store.interface import Check, Store
from store.records import NETWORKS


@dataclass(frozen=True, slots=True)
class Spreading:
    workers: Sequence[Worker]
    listeners: Sequence[Listener]  # to Docker's events
    outcomes: Callable[[], Mapping[str, Outcome]]  # how it stands with each network
    hurry: Callable[[], None] = lambda: None  # to be told when the store is back


def assemble_spreading(
    settings: Settings, engine: Dockerd, store: Store, local: Store, journal: Journal, fence: Callable[[], Check]
) -> Spreading:
    had = Participation(local)
    if settings.store.scheme == "sqlite":  # there is nobody else
        return Spreading([Abstainer(had, dict, list)], [], dict)
    if not settings.propagate:
        return _abstaining(settings.host, engine, store, had, journal)
    following = Following(store, settings.host, NETWORKS, lambda _: spreader.poke())
    spreader = Spreader(
        engine,
        store,
        had,
        settings.host,
        settings.lease_ttl,
        following.entries,
        lambda: {network.id for network in journal.networks() if not network.adopted},
        fence,
    )
    return Spreading([spreader, following], [spreader], spreader.outcomes, following.hurry)


def _abstaining(host: str, engine: Dockerd, store: Store, had: Participation, journal: Journal) -> Spreading:
    def names() -> set[str]:
        try:
            return {network.shape.name for network in engine.listed()}
        except EngineUnavailable:
            return set()

    following = Following(store, host, NETWORKS, lambda changes: abstainer.heard(changes))
    abstainer = Abstainer(
        had, following.entries, lambda: {pool for network in journal.networks() for pool in network.pools[:1]}, names
    )
    return Spreading([abstainer, following], [], abstainer.outcomes, following.hurry)
