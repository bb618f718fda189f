"""The difference between the kernel as it is and as it should be: a pure function."""

from dataclasses import dataclass, field

from driver.entries import Key
from driver.state import Link, LinkState, LinkSwitches, Object, State, changes_in_place


@dataclass(frozen=True, slots=True)
class Put:
    """Create the object, or bring the one that has its key to this shape. `again`: it stood there before, and takes its
    place back from whatever has taken it since."""

    object: Object
    again: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"+ {self.object}"


@dataclass(frozen=True, slots=True)
class Drop:
    object: Object

    def __str__(self) -> str:
        return f"- {self.object}"


Operation = Put | Drop


def plan(actual: State, desired: State) -> list[Operation]:
    """Links that must be made anew go first, then everything is built upwards and what is left over is taken down.

    Adding comes before dropping, so that a path that moves is never without a route. A link takes all that hangs on
    it along: what stays desired on a link made anew is put again, what is not is not dropped one by one."""
    left_over = actual.keys() - desired.keys()
    gone = [o for key, o in actual.items() if key in left_over] if left_over else []
    leaving = [o for o in gone if not isinstance(o, LinkState | LinkSwitches)]
    remade = [o for o in _links(actual) if o.key in desired and not _can_become(o, desired[o.key])]
    lost = {o.dev for o in (*remade, *gone) if isinstance(o, Link)}
    put = [
        o
        for key, o in desired.items()
        # the first comparison is for the thousands that are the very same
        if ((known := actual.get(key)) is not o and known != o) or (lost and known and known.dev in lost)
    ]
    drop = [o for o in leaving if o.dev not in lost or isinstance(o, Link)]
    return [
        *(Drop(o) for o in remade),
        *(Put(o) for o in sorted(put, key=lambda o: o.rank)),
        *(Drop(o) for o in sorted(drop, key=lambda o: -o.rank)),
    ]


def _can_become(old: Link, new: Object) -> bool:
    return old == new or (isinstance(new, Link) and changes_in_place(old, new))


def _links(state: State) -> list[Link]:
    return [o for o in state.values() if o.rank == 0 and isinstance(o, Link)]


def applied(actual: dict[Key, Object], operation: Operation) -> None:
    """Note in `actual` what an operation on anything but a link has done."""
    if isinstance(operation, Put):
        actual[operation.object.key] = operation.object
    else:
        actual.pop(operation.object.key, None)
