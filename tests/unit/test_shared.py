"""A shared record has members or is gone, whatever the others do between any two calls to the store."""

from contextlib import suppress
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from store.codec import encode
from store.interface import ABSENT, Change, Entry, Put, Snapshot
from store.memory import MemoryStore
from store.shared import Shared, close_if_empty, create, read_open, remove_member


@dataclass(frozen=True, slots=True)
class Room:
    closing: bool = False


ROOM = Shared(Room, "room", "members/")


class Crash(Exception):
    pass


class Interrupted:
    """A store before each of whose calls something else may happen: another host acts, or this one dies."""

    def __init__(self, script: list[str]) -> None:
        self.inner, self.script, self.inside = MemoryStore(), script, {"me"}

    def _before(self) -> None:
        what = self.script.pop() if self.script else "-"
        if what == "die":
            raise Crash
        if what in ("join", "leave"):
            with suppress(Crash):
                (join if what == "join" else leave)(self, "other")

    def get(self, key: str) -> Entry | None:
        self._before()
        return self.inner.get(key)

    def read(self, prefix: str) -> Snapshot:
        self._before()
        return self.inner.read(prefix)

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        raise NotImplementedError

    def commit(self, *changes: Change) -> bool:
        self._before()
        return self.inner.commit(*changes)

    def close(self) -> None:
        self.inner.close()


def join(store: Interrupted, who: str) -> bool:
    for _ in range(5):
        opened = read_open(store, ROOM)
        if opened is None:
            store.commit(create(ROOM, Room()))
        elif store.commit(opened.check(ROOM), Put(f"members/{who}", b"", ABSENT)):
            return True
    return False


def leave(store: Interrupted, who: str) -> None:
    remove_member(store, f"members/{who}")
    close_if_empty(store, ROOM, lambda _: [])


@given(
    st.lists(st.sampled_from(["-", "-", "join", "leave", "die"]), max_size=30),
    st.lists(st.sampled_from(["join", "leave"]), max_size=6),
)
def test_no_member_is_ever_without_its_record(script: list[str], acts: list[str]) -> None:
    store = Interrupted(script)
    for act in acts:
        try:
            join(store, "me") if act == "join" else leave(store, "me")
        except Crash:
            continue
        members = store.inner.read("members/").entries
        assert not members or store.inner.get("room") is not None


def test_what_a_dead_closer_left_is_opened_again_or_removed() -> None:
    for next_one in ("join", "leave"):
        store = Interrupted([])
        store.inner.commit(Put("room", encode(Room(closing=True)), ABSENT))
        if next_one == "join":
            assert join(store, "me")
            assert store.inner.get("room") is not None
        else:
            leave(store, "me")
            assert store.inner.get("room") is None
