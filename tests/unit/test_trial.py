"""A disk that takes nothing, or hangs, is told of in time."""

import threading
from concurrent.futures import ThreadPoolExecutor

from operations.trial import Trial
from store.interface import Change, StoreUnavailable
from store.memory import MemoryStore


class Disk(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.full, self.writes, self.works = False, 0, threading.Event()
        self.works.set()

    def commit(self, *changes: Change) -> bool:
        self.writes += 1
        self.works.wait(10)
        if self.full:
            raise StoreUnavailable("the disk is full")
        return super().commit(*changes)


def test_each_trial_writes_and_tells_what_became_of_it() -> None:
    disk = Disk()
    trial = Trial(disk)
    assert trial.fault() == ""
    disk.full = True
    assert trial.fault() == "nothing can be written down, so no address is given out: the disk is full"
    disk.full = False
    before = disk.read("").version
    assert trial.fault() == ""
    assert disk.read("").version > before


def test_a_disk_that_hangs_keeps_nobody_for_longer_than_a_moment_and_is_asked_once() -> None:
    disk = Disk()
    disk.works.clear()
    trial = Trial(disk, patience=0.05)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(trial.fault) for _ in range(3)]
        assert all("has not taken a record within 0.05 s" in one.result(5) for one in asked)
    assert trial.fault()
    assert disk.writes == 1
    disk.works.set()
    assert Trial(disk).fault() == ""
