"""Which peer has an address: the longest prefix wins. Pure."""

from ipaddress import ip_network
from typing import Generic, TypeVar

T = TypeVar("T")

REMEMBERED = 4096  # addresses, so that the memory is bounded whatever is asked for


class Table(Generic[T]):
    """A change costs no more with thousands of prefixes than with one: no packet waits for it."""

    def __init__(self) -> None:
        self._by_length: dict[tuple[int, int], dict[int, T]] = {}  # by an address's bytes and its bits after the prefix
        self._lengths: list[tuple[int, int]] = []  # the longest prefix first
        self._remembered: dict[bytes, T | None] = {}

    def put(self, prefix: str, target: T) -> None:
        length, number = _numbers(prefix)
        if length not in self._by_length:
            self._by_length[length] = {}
            self._lengths = sorted(self._by_length, key=lambda length: length[1])
        self._by_length[length][number] = target
        self._remembered.clear()

    def remove(self, prefix: str, target: T) -> None:
        """If it leads to that very object, and not to another one since."""
        length, number = _numbers(prefix)
        if self._by_length.get(length, {}).get(number) is target:
            del self._by_length[length][number]
            self._remembered.clear()

    def find(self, address: bytes) -> T | None:
        """The target of a packed address of 4 or 16 bytes."""
        try:
            return self._remembered[address]
        except KeyError:
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            found = self._remembered[address] = self._find(address)
            return found

    def _find(self, address: bytes) -> T | None:
        number = int.from_bytes(address)
        for length in self._lengths:
            if length[0] == len(address):
                target = self._by_length[length].get(number >> length[1])
                if target is not None:
                    return target
        return None


def _numbers(prefix: str) -> tuple[tuple[int, int], int]:
    """The prefix's length, as in a table's `_by_length`, and its leading bits."""
    network = ip_network(prefix)
    after = network.max_prefixlen - network.prefixlen
    return (network.max_prefixlen // 8, after), int(network.network_address) >> after
