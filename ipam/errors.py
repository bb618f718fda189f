"""Why an address or a pool was refused: each message is a sentence for the person at the `docker` prompt."""


class IpamError(Exception):
    pass


class BadRequest(IpamError):
    """The request contradicts itself or names something impossible."""


class NoSuchPool(IpamError):
    """No pool with this id is in use on this host."""


def not_in_use(pool_id: object) -> NoSuchPool:
    return NoSuchPool(
        f"pool {pool_id} is not in use on this host; if Docker has a network there, remove it and create it again"
    )


class PoolConflict(IpamError):
    """The pool overlaps another, or is known to the cluster with other properties."""


class PoolExhausted(IpamError):
    """No address or no block is left."""


class AddressTaken(IpamError):
    """The wanted address belongs to somebody else."""
