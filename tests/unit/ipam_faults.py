"""What can happen to a write: the process dies before it or after it, its answer is lost, or it is done much later."""

from collections.abc import Callable

from store.interface import Change, Entry, Snapshot, Store, StoreUnavailable

LIVE = "live"
DIE_BEFORE, DIE_AFTER = "die before", "die after"
NO_ANSWER, LATE = "no answer", "late"
ON_DISK = (LIVE, DIE_BEFORE, DIE_AFTER)  # a disk that loses an answer is no disk
FATES = (DIE_BEFORE, DIE_AFTER, NO_ANSWER, LATE)


class Dead(BaseException):
    """The process ends here. Nothing in it may catch this, as nothing catches a SIGKILL."""


class Fragile:
    """A host's disk, or its line to the store; `fate` is asked at each write."""

    def __init__(self, inner: Store, fate: Callable[[], str], late: list[Callable[[], object]] | None = None) -> None:
        """Writes whose fate is LATE go to the end of `late`, for the test to carry out when it likes."""
        self._inner, self.fate, self.late = inner, fate, late

    def way(self) -> Store:
        """Where all of it goes."""
        return self._inner

    def get(self, key: str) -> Entry | None:
        return self.way().get(key)

    def read(self, prefix: str) -> Snapshot:
        return self.way().read(prefix)

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        return self.way().wait(prefix, after, timeout)

    def commit(self, *changes: Change) -> bool:
        fate = self.fate()
        if fate == DIE_BEFORE:
            raise Dead
        if fate == LATE and self.late is not None:
            way = self.way()
            self.late.append(lambda: way.commit(*changes))
            raise StoreUnavailable("no answer in time")
        done = self.way().commit(*changes)
        if fate == DIE_AFTER:
            raise Dead
        if fate == NO_ANSWER:
            raise StoreUnavailable("the answer was lost")
        return done

    def close(self) -> None:
        self.way().close()
