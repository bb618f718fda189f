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
        self._inner, self._fate, self._late = inner, fate, late

    def get(self, key: str) -> Entry | None:
        return self._inner.get(key)

    def read(self, prefix: str) -> Snapshot:
        return self._inner.read(prefix)

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        return self._inner.wait(prefix, after, timeout)

    def commit(self, *changes: Change) -> bool:
        fate = self._fate()
        if fate == DIE_BEFORE:
            raise Dead
        if fate == LATE and self._late is not None:
            self.send_late(self._late, changes)
            raise StoreUnavailable("no answer in time")
        done = self._inner.commit(*changes)
        if fate == DIE_AFTER:
            raise Dead
        if fate == NO_ANSWER:
            raise StoreUnavailable("the answer was lost")
        return done

    def send_late(self, late: list[Callable[[], object]], changes: tuple[Change, ...]) -> None:
        late.append(lambda: self._inner.commit(*changes))

    def close(self) -> None:
        self._inner.close()
