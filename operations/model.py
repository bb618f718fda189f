"""What the operator's commands and the status API answer. The JSON of `--json` has these names (docs/commands.md)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreState:
    address: str  # as FLANNELPY_STORE says it
    away_for: float | None  # seconds, None while it answers
    why: str  # why it is away, empty while it answers


@dataclass(frozen=True, slots=True)
class LeaseState:
    ttl: float  # seconds a silent host keeps what it holds
    silent_for: float | None  # seconds since this host's last beat that reached the store, None if there was none
    fence: str  # why no address is given out now, empty if nothing hinders it
    retelling: bool = False  # the store had lost what it knew, and the hosts tell it again: no block is taken meanwhile


@dataclass(frozen=True, slots=True)
class UnderlayState:
    dev: str
    mtu: int
    addresses: tuple[str, ...]  # where other hosts send to


@dataclass(frozen=True, slots=True)
class Status:
    host: str
    version: str
    store: StoreState
    lease: LeaseState
    underlay: UnderlayState | None
    networks: int  # on this host
    endpoints: int  # on this host
    blocks: int  # held by this host
    addresses: int  # given out by this host
    hosts: int  # in the cluster
    silent_hosts: tuple[str, ...]
    apart: tuple[str, ...]  # names of the cluster's networks that this host lacks or has otherwise: `networks` says why
    problems: tuple[str, ...]  # sentences; empty if all is well


@dataclass(frozen=True, slots=True)
class Host:
    name: str
    here: bool
    addresses: tuple[str, ...]  # in the underlay
    networks: tuple[str, ...]  # pools of which it is a peer
    blocks: int
    given: int  # addresses, as far as the host has told
    silent_for: float | None  # seconds this host has watched the other without a sign of life, None for this host
    given_up: bool  # its lease was lost and it has not been seen since


@dataclass(frozen=True, slots=True)
class Network:
    pool: str  # the first one is the network's name in the cluster
    more_pools: tuple[str, ...]
    space: str  # of `--ipam-opt network=`, empty for networks of our driver
    name: str | None  # Docker's name for it on this host; of one that is not here, the cluster's, None: not told
    backend: str | None  # None: only the addresses are ours
    vni: int | None
    port: int | None
    mtu: int | None  # None: from the underlay
    internal: bool
    here: bool
    hosts: tuple[str, ...]
    size: int  # addresses in the first pool
    block_size: int
    blocks: int  # taken
    given: int  # addresses in all pools, as far as the hosts have told
    spread: str | None  # why it is not here, or not as the cluster has it; None if all is well


@dataclass(frozen=True, slots=True)
class Address:
    address: str
    pool: str
    space: str
    host: str
    use: str  # container, host, gateway, reserved, resting, lost, or in use (on another host)
    container: str | None
    network: str | None  # Docker's name for it


@dataclass(frozen=True, slots=True)
class Finding:
    check: str  # its name in operations/checks
    severity: str  # error: something does not work; warning: something soon may not
    says: str  # what is wrong, with the value found
    cure: str  # what to do


@dataclass(frozen=True, slots=True)
class Diagnosis:
    host: str
    findings: tuple[Finding, ...]  # empty if all is well
    asked: int  # peers that were probed
    left_out: int  # and those that were not, in a large cluster


OK, WRONG, UNKNOWN = "ok", "wrong", "cannot tell"


@dataclass(frozen=True, slots=True)
class Hop:
    hop: str  # network, holder, container, ...
    state: str  # ok, wrong, cannot tell
    says: str  # with the value found
    cure: str = ""  # where it is wrong


@dataclass(frozen=True, slots=True)
class TraceAnswer:
    source: str  # address of A
    to: str  # address of B
    hops: tuple[Hop, ...]  # in the order of the packet's way; the first wrong one is the cause


@dataclass(frozen=True, slots=True)
class HeldBlock:
    block: str
    host: str
    given: int  # addresses, as far as the host has told


@dataclass(frozen=True, slots=True)
class PoolMap:
    """How one pool is cut up. An IPv6 pool has more blocks than anybody counts: only the held ones are listed."""

    pool: str
    count: int  # blocks that it could have
    block_size: int
    held: tuple[HeldBlock, ...]


@dataclass(frozen=True, slots=True)
class NetworkMap:
    network: Network
    encrypted: bool
    pools: tuple[PoolMap, ...]


@dataclass(frozen=True, slots=True)
class Container:
    """One attachment to one network."""

    name: str
    host: str
    network: str | None  # Docker's name for it
    pool: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    hosts: tuple[Host, ...]
    networks: tuple[NetworkMap, ...]
    containers: int  # attachments to networks


@dataclass(frozen=True, slots=True)
class Overview:
    """All that the page shows."""

    status: Status
    picture: Picture | None  # None: the store has been away since this host's flannelpy started
    age: float | None  # seconds since the store showed it so


@dataclass(frozen=True, slots=True)
class FoundContainers:
    """Those that a person looks for: all of them would be too many for a page."""

    total: int  # that match
    containers: tuple[Container, ...]  # the first of them
