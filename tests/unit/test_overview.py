"""One look at the cluster for everybody who looks at the page."""

import threading
from dataclasses import dataclass, field

from operations.model import Container, Picture, Status
from operations.overview import MOST_CONTAINERS, PERIOD, SHARE, Overviews
from tests.unit.page_cluster import Cluster, picture, status


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def test_many_viewers_cost_one_look() -> None:
    cluster, clock = Cluster(picture(), status()), Clock()
    overviews = Overviews(cluster, clock)
    assert [overviews.overview().picture for _ in range(9)] == [picture()] * 9
    assert cluster.looks == 1
    clock.now += PERIOD
    assert overviews.overview().age == 0
    assert cluster.looks == 2


def test_a_store_that_is_away_leaves_what_was_last_seen_and_its_age() -> None:
    cluster, clock = Cluster(picture(), status()), Clock()
    overviews = Overviews(cluster, clock)
    overviews.overview()
    cluster.vanish()
    clock.now += 60
    seen = overviews.overview()
    assert (seen.picture, seen.age, seen.status.store.away_for) == (picture(), 60, 3.0)


def test_a_store_that_was_never_there_leaves_nothing() -> None:
    seen = Overviews(Cluster(None, status(away=5)), Clock()).overview()
    assert (seen.picture, seen.age) == (None, None)


@dataclass
class Slow:
    """Takes its time for every look."""

    clock: Clock
    seconds: float
    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    looks: int = 0

    def status(self) -> Status:
        return status()

    def picture(self) -> tuple[Picture, list[Container]]:
        self.looks += 1
        self.begun.set()
        assert self.go_on.wait(10)
        self.clock.now += self.seconds
        return picture(), []


def test_a_look_that_takes_long_is_seldom() -> None:
    clock = Clock()
    slow = Slow(clock, 3.0)
    slow.go_on.set()
    overviews = Overviews(slow, clock)
    overviews.overview()
    clock.now += 3 / SHARE - 1
    overviews.overview()
    assert slow.looks == 1
    clock.now += 1
    overviews.overview()
    assert slow.looks == 2


def test_nobody_waits_for_somebody_elses_look() -> None:
    slow = Slow(Clock(), 0.0)
    overviews = Overviews(slow, slow.clock)
    first = threading.Thread(target=overviews.overview)
    first.start()
    assert slow.begun.wait(10)
    assert overviews.overview().picture is None
    slow.go_on.set()
    first.join()
    assert overviews.overview().picture == picture()


def test_containers_are_found_by_what_a_person_knows_of_them() -> None:
    overviews = Overviews(
        Cluster(picture(), status(), "Shop", "mail", *(f"c{number}" for number in range(200))), Clock()
    )
    overviews.overview()
    for wanted, names in (("shop", ["Shop"]), ("10.0.0.1 ", ["mail"]), ("nobody", [])):
        assert [each.name for each in overviews.containers(wanted).containers if each.name in ("Shop", "mail")] == names
    everybody = overviews.containers("")
    assert (everybody.total, len(everybody.containers)) == (202, MOST_CONTAINERS)
