"""For a door that has no better way: each operation for itself, and none keeps the others back."""

from collections.abc import Callable, Iterable

from driver.errors import KernelError
from driver.plan import Operation


def one_by_one(apply: Callable[[Operation], None], operations: Iterable[Operation]) -> dict[Operation, str]:
    """Carry out all, in their order; what failed, and why."""
    failed: dict[Operation, str] = {}
    for operation in operations:
        try:
            apply(operation)
        except KernelError as error:
            failed[operation] = str(error)
    return failed
