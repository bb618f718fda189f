"""What the doctor's checks judge: gathered apart, all at once, each question with an end."""

from collections.abc import Mapping
from dataclasses import dataclass

from driver.backends.interface import Underlay
from driver.model import Network
from driver.verdict import Drop
from operations.lookup import Lookup
from operations.model import LeaseState
from operations.reach import Reached
from store.ip import IPNetwork


@dataclass(frozen=True, slots=True)
class Facts:
    host: str
    store: str  # its address
    store_error: str | None  # what reading it ended with
    forbidden: bool
    faulty: tuple[str, ...]  # keys in it that cannot be read
    skew: float | None  # seconds this clock is ahead of the store's, None: not known
    clocks: Mapping[str, float]  # of other hosts, as far as they tell: seconds that they are ahead of this one
    lease: LeaseState
    silent: Mapping[str, float]  # hosts without a sign of life, and for how many seconds
    engine_error: str | None
    shared: Mapping[str, tuple[str, ...]]  # underlay addresses that several hosts publish, and these hosts
    conflicts: tuple[str, ...]
    garbage: tuple[str, ...]
    faults: tuple[str, ...]  # of the reconciler, but for the next
    lost: str  # why the interface to the other hosts is not known, empty if it is
    failing: Mapping[str, str]  # duties, and why
    underlay: Underlay | None
    networks: tuple[Network, ...]
    foreign: tuple[tuple[IPNetwork, str], ...]  # routes and addresses that are not ours, and their links
    forward_drops: tuple[Drop, ...]  # what of others' rules drops packets between our containers
    tunnel_drops: Mapping[int, tuple[Drop, ...]]  # by UDP port: what drops those of peers
    not_forwarding: tuple[str, ...]  # switches that are off
    unguarded: tuple[str, ...]  # links of containers whose rp_filter somebody changed
    reached: tuple[Reached, ...]
    left_out: int  # hosts that were not asked
    unprobed: str  # why nobody was
    lookups: tuple[Lookup, ...]  # containers here that asked for one on another host
    dropped: Mapping[str, int]  # packets, by our own rules while the doctor looked, by reason
    bad_checksums: int  # of tunnelled packets, lately, if there were many
    disk: tuple[int, int] | None  # bytes free and in all, where the records are; None if they are gone
    unwritten: str  # why nothing can be written there, empty if it can
