"""Which peer has an address: the longest prefix wins. Pure."""

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Generic, TypeVar

T = TypeVar("T")

REMEMBERED = 4096  # addresses, so that the memory is bounded whatever is asked for


class Table(Generic[T]):
    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        """Prefixes, as text, and what they lead to."""
        self._by_length: dict[tuple[int, int], dict[int, T]] = {}
        for text, target in entries:
            prefix = ip_network(text)
            length = (prefix.max_prefixlen // 8, prefix.max_prefixlen - prefix.prefixlen)
            number = int(prefix.network_address) >> length[1]
            self._by_length.setdefault(length, {})[number] = target
        self._lengths = sorted(self._by_length, key=lambda length: length[1])  # the longest prefix first
        self._remembered: dict[bytes, T | None] = {}

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
