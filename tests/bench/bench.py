"""What figures are measured on, made when the first of them asks for it: hosts, networks, ways between containers."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Self

from tests.bench.bed import Bed
from tests.bench.datapaths import DataPath, Ways
from tests.lab.cluster import Cluster
from tests.lab.lab import Lab


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a figure is measured."""

    rounds: int = 5
    sweep_rounds: int = 3
    stream: tuple[str, ...] = ("-t", "1")  # when an iperf3 stream ends
    points: int | None = None  # of a sweep, all by default
    seconds: int = 1  # of round trips or connections
    runs: int = 20  # of `docker run`


class Bench:
    """`cluster` and `ways` are for who has some already, and keeps them."""

    def __init__(self, effort: Effort | None = None, cluster: Cluster | None = None, ways: Ways | None = None) -> None:
        self.effort = effort or Effort()
        self._cluster, self._ways = cluster, ways
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    @cached_property
    def cluster(self) -> Cluster:
        """Two hosts with flannelpy and a Consul."""
        if self._cluster is not None:
            return self._cluster
        cluster = Cluster(self._open.enter_context(Lab(hosts=2)))
        cluster.start()
        return cluster

    @cached_property
    def bed(self) -> Bed:
        return Bed(self.cluster.hosts[0])

    @cached_property
    def ways(self) -> Ways:
        """Two containers on each kind of network, and the hosts themselves; what cannot be made here is told."""
        if self._ways is not None:
            return self._ways
        return self._open.enter_context(Ways.all(self.cluster))

    @property
    def paths(self) -> list[DataPath]:
        return self.ways.paths
