"""What this host tracks of connections whose packets went past it.

While they take the fast path, what is known of a connection stays as it was. When its program is gone they meet the
host's rules again and fit none of it; many firewalls drop such packets. So all that was tracked is forgotten then."""

import logging
from collections.abc import Iterable

from driver.errors import KernelError
from driver.kernel import flows
from driver.model import Network
from driver.plan import Drop, Operation
from driver.state import FastPath

log = logging.getLogger(__name__)


def forget(done: Iterable[Operation], networks: Iterable[Network]) -> None:
    """If these operations have taken programs away; `networks` are all of this host."""
    if not any(isinstance(each, Drop) and isinstance(each.object, FastPath) for each in done):
        return
    pools = [pool for network in networks if network.fast_path for pool in network.pools]
    try:
        forgotten = flows.forget_within(pools)
    except KernelError as error:
        log.warning("connections may break that took the fast path", extra={"why": error})
    else:
        log.info("connections without the fast path are tracked anew", extra={"flows": forgotten})
