"""Whether more waits to be read. To read in vain, and make an exception of it, takes Python four times as long."""

import select
from collections.abc import Callable
from functools import partial


def waiting(descriptor: int) -> Callable[[], object]:
    """Something that is false when called while there is nothing to read, and no error, either."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return partial(poll.poll, 0)
