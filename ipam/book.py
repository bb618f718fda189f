"""The addresses of one block in memory: which were never used, which rest, which are in use.

Choosing one takes the same time however many there are."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from store.ip import IPAddress, IPNetwork

REST = 60.0  # seconds an address stays unused after its release, so that nobody's old packets reach the next owner


class BlockBook:
    def __init__(
        self,
        block: IPNetwork,
        usable: Iterable[IPAddress],
        given: Iterable[IPAddress],
        released: Mapping[IPAddress, float],
    ) -> None:
        """`usable` are those that may be given; `released` maps those that came back to the moment they did."""
        self.block = block
        self._given = set(given)
        self._in_order: tuple[IPAddress, ...] | None = None
        self._resting = dict(sorted(released.items(), key=lambda item: item[1]))
        known = self._given | self._resting.keys()
        self._fresh = deque(address for address in usable if address not in known)

    def fresh(self) -> Iterator[IPAddress]:
        """Those that were never used, the lowest first."""
        return iter(self._fresh)

    def rested(self, now: float, rest: float) -> Iterator[tuple[float, IPAddress]]:
        """Those that have rested for so long, after the moment of their release: the one that rested longest first.

        A release that lies ahead of `now` was before the clock was set back: nobody knows how long ago."""
        for address, released in self._resting.items():
            if now - rest < released <= now:
                return
            yield released, address

    def give(self, address: IPAddress) -> None:
        self._in_order = None
        self._given.add(address)
        if self._resting.pop(address, None) is None:
            with suppress(ValueError):
                self._fresh.remove(address)

    def take_back(self, address: IPAddress, moment: float) -> None:
        self._in_order = None
        self._given.discard(address)
        self._resting[address] = moment

    @property
    def given(self) -> tuple[IPAddress, ...]:
        """Those in use, in order; the same object as long as they are the same."""
        if self._in_order is None:
            self._in_order = tuple(sorted(self._given))
        return self._in_order

    def size_within(self, range_: IPNetwork | None) -> int:
        return min(self.block.num_addresses, range_.num_addresses if range_ else self.block.num_addresses)

    def free_within(self, range_: IPNetwork | None) -> int:
        """How many are not in use, reserved ones among them."""
        if range_ is None:
            return len(self._resting) + len(self._fresh)
        return sum(address in range_ for address in (*self._resting, *self._fresh))
