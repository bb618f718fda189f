"""Doors: each reads and changes some kinds of objects. Netlink's is the kernel door; a backend that needs more than
netlink (a process of its own, keys) adds one for its own kinds, and is planned and repaired like everything else."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Protocol

from driver.kernel import Kernel
from driver.plan import Operation
from driver.state import Object, State, state_of


class Door(Protocol):
    kinds: tuple[type[Object], ...]  # which objects are read and changed here

    def read(self) -> Iterable[Object]:
        """All objects of ours of these kinds, as they are."""

    def apply_all(self, operations: Iterable[Operation]) -> dict[Operation, str]:
        """Carry out all, in their order; what failed, and why. Doing it twice is fine, and one that failed keeps none
        of the others back."""


class Doors:
    """The kernel and the other doors as one."""

    def __init__(self, kernel: Kernel, others: Sequence[Door]) -> None:
        self.kernel, self._others = kernel, others
        self._by_kind = {kind: door for door in others for kind in door.kinds}

    def read(self) -> State:
        return {**self.kernel.read(), **state_of(o for door in self._others for o in door.read())}

    def apply_all(self, operations: Iterable[Operation]) -> dict[Operation, str]:
        """Carry out all, in their order; what failed, and why."""
        failed: dict[Operation, str] = {}
        for door, some in groupby(operations, lambda operation: self._by_kind.get(type(operation.object))):
            if door is None:
                failed |= self.kernel.apply_all(some)
            else:
                failed |= door.apply_all(some)
                self.kernel.forget_links()  # it may have made or removed some
        return failed
