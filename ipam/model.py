"""What Docker asks of an IPAM driver, in our words."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from ipam.errors import BadRequest, NoSuchPool
from store.ip import IPAddress, IPNetwork, contains, parse_network


@dataclass(frozen=True, slots=True)
class PoolRequest:
    """`docker network create`: one per `--subnet`, or one per family when none is given."""

    pool: IPNetwork | None  # --subnet
    range: IPNetwork | None  # --ip-range
    options: Mapping[str, str] = field(default_factory=dict)  # --ipam-opt
    v6: bool = False


@dataclass(frozen=True, slots=True)
class PoolId:
    """A pool as one Docker network sees it: the cluster's pool, and the part this network chooses from.

    Its text form is Docker's PoolID: `10.240.0.0/18`, with a range `10.240.0.0/18,10.240.1.0/24`, in a name space of
    its own `lan@10.240.0.0/18`."""

    pool: IPNetwork
    range: IPNetwork | None = None
    space: str = ""  # --ipam-opt network=

    def __post_init__(self) -> None:
        if self.range is not None and not contains(self.pool, self.range):
            raise BadRequest(f"--ip-range {self.range} is not inside --subnet {self.pool}")

    def __str__(self) -> str:
        space = f"{self.space}@" if self.space else ""
        return f"{space}{self.pool},{self.range}" if self.range else f"{space}{self.pool}"

    def within_space(self) -> Self:
        """The id as its own space knows it."""
        return replace(self, space="")

    @classmethod
    def parse(cls, text: str) -> Self:
        space, _, id_ = text.rpartition("@")
        pool, _, range_ = id_.partition(",")
        try:
            return cls(parse_network(pool), parse_network(range_) if range_ else None, space)
        except (ValueError, BadRequest):
            raise NoSuchPool(f"there is no pool with the id {text!r}: an id reads like 10.240.0.0/18") from None


@dataclass(frozen=True, slots=True)
class AddressRequest:
    pool: PoolId
    address: IPAddress | None = None  # --ip, --gateway, --aux-address
    gateway: bool = False
