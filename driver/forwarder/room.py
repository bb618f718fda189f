"""A buffer for packets, and views of the pieces that one size cuts it into."""

KEPT = 16  # sizes


class Room:
    """Views are kept, since what is cut is always of the same few sizes: to make one takes Python longer than to use
    it."""

    def __init__(self, size: int) -> None:
        self.view = memoryview(bytearray(size))
        self._cut: dict[tuple[int, int, int], list[memoryview]] = {}

    def pieces(self, begin: int, length: int, step: int, first: int, count: int) -> list[memoryview]:
        """`count` pieces of `length` bytes, from the one of that number on; number 0 is at `begin`, the next one a step
        further."""
        cut = self._cut.get((begin, length, step))
        if cut is None:
            if len(self._cut) >= KEPT:
                self._cut.clear()
            cut = self._cut[begin, length, step] = []
        for at in range(begin + len(cut) * step, begin + (first + count) * step, step):
            cut.append(self.view[at : at + length])
        return cut[first : first + count]
