"""This host's state in numbers, for Prometheus."""

from operations.metrics import Counts
from operations.observer import Observer, Sources, in_use
from operations.traffic import Traffic


class Tally:
    def __init__(self, sources: Sources, observer: Observer) -> None:
        ours = sources.ours()
        self._see, self._observer, self._traffic = sources, observer, Traffic(ours.networks, ours.endpoints)

    def counts(self) -> Counts:
        see, ours, status = self._see, self._see.ours(), self._observer.status()
        view = see.watch.view()
        peers = {pool: len(hosts - {see.host}) for pool, hosts in view.peers().items()} if view else {}
        return Counts(
            networks=status.networks,
            endpoints=status.endpoints,
            addresses={where: sum(map(in_use, leases.values())) for where, leases in ours.leases.items()},
            blocks={where: len(blocks) for where, blocks in ours.blocks.items()},
            peers={("", pool): peers.get(pool, 0) for network in ours.networks for pool in network.pools[:1]},
            lease_silence=see.tenancy.silence(),
            lease_ttl=see.ttl,
            store_away=status.store.away_for or 0.0,
            store_traffic=see.exchanged(),
            watch_age=see.watch.age(),
            problems=len(status.problems),
            conflicts=len(see.conflicts.found),
            silent_hosts=len(status.silent_hosts),
            garbage_freed=see.collector.freed,
            passes=see.reconciler.passes,
            pass_seconds=see.reconciler.pass_seconds,
            repairs=see.reconciler.repairs,
            listener_failures=sum(listener.failures for listener in see.listeners),
            traffic=self._traffic.look(ours.networks, ours.endpoints),
        )
