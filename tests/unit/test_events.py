"""Docker's events are followed over restarts of the Engine, and nothing falls between two connections."""

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from cluster.dockerd import EngineUnavailable
from cluster.engine import Event
from cluster.events import Follower, Listener

NOW = 1_700_000_000_000_000_000


def event(at: int, action: str = "create") -> Event:
    return Event("network", action, f"id-{at}", {"name": "web"}, at)


class Engine:
    """Each connection is a list of events, after which the Engine goes away; None refuses the connection."""

    def __init__(self, *connections: Sequence[Event] | None) -> None:
        self._connections = list(connections)
        self.asked: list[int] = []

    @contextmanager
    def events(self, since: int) -> Iterator[Iterator[Event]]:
        self.asked.append(since)
        connection = self._connections.pop(0) if self._connections else None
        if connection is None:
            raise EngineUnavailable("no Engine")
        yield iter(connection)


class Ear:
    def __init__(self) -> None:
        self.heard: queue.Queue[str] = queue.Queue()

    def resync(self) -> None:
        self.heard.put("all")

    def event(self, event: Event) -> None:
        self.heard.put(f"{event.action} {event.id}")

    def next(self, count: int) -> list[str]:
        return [self.heard.get(timeout=5) for _ in range(count)]


class Deaf(Ear):
    def event(self, event: Event) -> None:
        raise RuntimeError("broken")


@contextmanager
def following(engine: Engine, *listeners: Listener) -> Iterator[None]:
    follower = Follower(engine, listeners, lambda: NOW)
    follower.start()
    try:
        yield
    finally:
        follower.stop()


def test_each_connection_begins_with_everything_and_goes_on_where_the_last_one_ended() -> None:
    ear, engine = Ear(), Engine([event(NOW + 1), event(NOW + 7)], None, [event(NOW + 7), event(NOW + 9, "destroy")])
    with following(engine, ear):
        assert ear.next(3) == ["all", f"create id-{NOW + 1}", f"create id-{NOW + 7}"]
        assert ear.next(3) == ["all", f"create id-{NOW + 7}", f"destroy id-{NOW + 9}"]
    assert engine.asked[:3] == [NOW, NOW + 7, NOW + 7]


def test_a_listener_that_fails_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    ear = Ear()
    with following(Engine([event(NOW + 1)]), Deaf(), ear):
        assert ear.next(2) == ["all", f"create id-{NOW + 1}"]
    assert "an event was not taken" in caplog.text
