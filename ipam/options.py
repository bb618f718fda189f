"""The `--ipam-opt` options and the sizes of pools: what is allowed, and a sentence for everything else."""

from ipam.errors import BadRequest
from ipam.model import PoolRequest
from store.ip import IPNetwork

KNOWN = ("block", "network")  # the latter is ipam/spaces.py's
LARGEST_BLOCK_BITS = 16
POOL_SIZES = {4: (8, 30), 6: (48, 126)}  # prefix lengths, widest and narrowest


def block_option(request: PoolRequest) -> int | None:
    """`--ipam-opt block=27`: the prefix length of the pool's blocks."""
    unknown = sorted(set(request.options) - set(KNOWN))
    if unknown:
        raise BadRequest(f"unknown --ipam-opt {', '.join(unknown)}; known: {', '.join(KNOWN)}")
    if "block" not in request.options:
        return None
    text, pool = request.options["block"], request.pool
    if pool is None:
        raise BadRequest(f"--ipam-opt block={text} needs a --subnet")
    widest = max(pool.prefixlen, pool.max_prefixlen - LARGEST_BLOCK_BITS)
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and widest <= int(text) <= pool.max_prefixlen):
        raise BadRequest(
            f"--ipam-opt block={text}: must be a prefix length from {widest} to {pool.max_prefixlen} in {pool}"
        )
    return int(text)


def refuse_odd_size(pool: IPNetwork) -> None:
    widest, narrowest = POOL_SIZES[pool.version]
    if not widest <= pool.prefixlen <= narrowest:
        raise BadRequest(f"--subnet {pool}: a pool is a /{widest} to /{narrowest}")
