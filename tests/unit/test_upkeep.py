"""Duties go on, each at its own pace, whatever the others do."""

import threading

import pytest

from cluster import upkeep as upkeep_module
from cluster.upkeep import Duty, Upkeep
from store.interface import StoreUnavailable


def test_duties_go_on_whatever_one_of_them_does_and_hurry_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep_module, "SOON", 1000)  # so that it is tried again for the hurry alone
    done, calls = threading.Semaphore(0), []

    def fail() -> None:
        calls.append("fail")
        raise StoreUnavailable("away")

    upkeep = Upkeep([Duty("broken", fail, 1000), Duty("good", done.release, 1000)])
    upkeep.start()
    try:
        assert done.acquire(timeout=30)
        assert not done.acquire(timeout=0.2)
        upkeep.hurry()
        assert done.acquire(timeout=30)
        assert calls == ["fail", "fail"]
    finally:
        upkeep.stop()


def test_what_failed_is_tried_again_soon_and_not_only_at_its_next_time() -> None:
    done = threading.Event()
    answers = iter([StoreUnavailable("a connection ended")])

    def act() -> None:
        for error in answers:
            raise error
        done.set()

    upkeep = Upkeep([Duty("publish", act, 1000)])
    upkeep.start()
    try:
        assert done.wait(timeout=30)
        assert upkeep.failing() == {}
    finally:
        upkeep.stop()
