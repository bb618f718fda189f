"""A network made on one host is made on all: what a host does about one name, decided from what is known. Pure.

Three things are compared: what the cluster's record says, what this host's Docker has, and what this host had taken
part in when it last looked. Only the third tells a network that the user removed here from one that was never here.
docs/adr/0022 gives the reasons."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from enum import Enum, auto

from store.ip import IPAddress
from store.records import DockerNetwork, NetworkShape


@dataclass(frozen=True, slots=True)
class Here:
    """A network of this host's Docker."""

    id: str
    shape: NetworkShape
    ours: bool  # our driver made it, with addresses of our IPAM


@dataclass(frozen=True, slots=True)
class Had:
    """A network of the cluster as this host has it, written before Docker is told to make it."""

    name: str
    token: str  # of the cluster's record
    network_id: str | None = None  # Docker's, None while we make it


class Act(Enum):
    NOTHING = auto()
    ANNOUNCE = auto()  # tell the cluster of the network that the user made here
    JOIN = auto()  # what is here is the cluster's
    CREATE = auto()  # make the cluster's network here
    REMOVE = auto()  # the cluster has it no more; used by a container it stays, and is announced again
    REPLACE = auto()  # what is here contradicts the cluster; used by a container it stays
    WITHDRAW = auto()  # tell the cluster that the user removed it here
    THIN_OUT = auto()  # Docker has the name twice here: of those that no container uses, remove all but the cluster's
    REVIEW = auto()  # as the cluster has it, which kept it for a container: is that still so?
    FORGET = auto()


class State(Enum):
    SPREAD = "spread"
    KEPT = "kept"  # removed on one host, in use on another
    DIFFERS = "differs"  # made with other options on another host
    CONFLICT = "conflict"  # another network has this name in the cluster
    FOREIGN = "foreign"  # not ours here
    UNKNOWN = "unknown"  # the cluster does not know it
    AMBIGUOUS = "ambiguous"  # Docker has the name twice
    FAILED = "failed"
    ABSENT = "absent"  # not made here, for this host takes no part


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it stands with a name on this host, for people."""

    state: State
    why: str = ""


TWICE = Outcome(State.AMBIGUOUS, "Docker has several networks of this name here: remove all but one")


@dataclass(frozen=True, slots=True)
class Decision:
    act: Act
    network: Here | None = None  # the one it is about, or to keep
    outcome: Outcome | None = None


def decide(record: DockerNetwork | None, had: Had | None, here: Sequence[Here]) -> Decision:
    """`here` are the networks of one name, to which `record` and `had` belong."""
    mine = [network for network in here if network.ours]
    if had is not None and any(network.id == had.network_id and not network.ours for network in here):
        return Decision(Act.NOTHING)  # Docker is about to remove it: our driver was told already
    if len(mine) > 1:
        return _twice(mine, record, had)
    network = mine[0] if mine else None
    if network is not None and not _is_that(network, had):
        return _made_here(network, record, had)
    if record is None:
        return _unknown(network, had)
    if record.removed:
        return Decision(Act.REMOVE, network) if network else Decision(Act.FORGET if had else Act.NOTHING)
    if network is not None:
        return _as_recorded(network, record, had)
    if had is not None and had.token == record.token and had.network_id:
        return Decision(Act.WITHDRAW)
    if here:
        return Decision(Act.NOTHING, None, Outcome(State.FOREIGN, _foreign(here[0])))
    return Decision(Act.CREATE)


def _twice(mine: Sequence[Here], record: DockerNetwork | None, had: Had | None) -> Decision:
    """Docker makes two of a name when it is told twice in the same moment: here by the user and by us."""
    if record is None:
        return Decision(Act.NOTHING, None, TWICE)
    known = next((network for network in mine if had and network.id == had.network_id), None)
    if not record.removed:
        return Decision(Act.THIN_OUT, known or next((n for n in mine if n.shape.pools == record.pools), mine[0]))
    return Decision(Act.REMOVE, known) if known else Decision(Act.NOTHING, None, TWICE)


def _is_that(network: Here, had: Had | None) -> bool:
    """Whether the network is the one that this host had, or was making when it was interrupted."""
    return had is not None and had.network_id in (None, network.id)


def _made_here(network: Here, record: DockerNetwork | None, had: Had | None) -> Decision:
    """The user made it on this host, and we have not seen it before."""
    if record is None or record.removed:
        return Decision(Act.ANNOUNCE, network)
    if had is not None and had.token == record.token:
        return Decision(Act.ANNOUNCE, network)  # the user removed the cluster's, and made another at once
    if network.shape.pools != record.pools:
        return Decision(Act.REPLACE, network)
    return Decision(Act.JOIN, network)


def _unknown(network: Here | None, had: Had | None) -> Decision:
    """What this host had, and the cluster does not know: its store was emptied, or the host was away for too long.
    An empty answer is no order to remove anything."""
    if network is None:
        return Decision(Act.FORGET if had else Act.NOTHING)
    why = "the cluster no longer knows it: remove it here, and create it again if it is still wanted"
    return Decision(Act.NOTHING, network, Outcome(State.UNKNOWN, why))


def _as_recorded(network: Here, record: DockerNetwork, had: Had | None) -> Decision:
    """What this host had is here, and the cluster has a network of that name."""
    unlike = differences(network.shape, record)
    if had is None or had.token != record.token:
        return Decision(Act.REPLACE if unlike else Act.JOIN, network)
    if had.network_id is None:  # interrupted while we made it, and the user may have been faster
        return Decision(Act.JOIN if network.shape.pools == record.pools else Act.REPLACE, network)
    outcome = standing(network.shape, record)
    return Decision(Act.REVIEW if outcome.state is State.KEPT else Act.NOTHING, network, outcome)


def standing(shape: NetworkShape, record: DockerNetwork) -> Outcome:
    """How a network that is part of the cluster's stands."""
    if unlike := differences(shape, record):
        why = f"made here with other {', '.join(unlike)} than on {record.host}, and left so"
        return Outcome(State.DIFFERS, why)
    return Outcome(State.KEPT, record.kept) if record.kept else Outcome(State.SPREAD)


def differences(here: NetworkShape, there: NetworkShape) -> list[str]:
    """In what two networks of one name are unlike, in the words of `docker network create`."""
    unlike = [
        f.name.replace("_", " ")
        for f in fields(NetworkShape)
        if f.name != "gateways" and getattr(here, f.name) != getattr(there, f.name)
    ]
    # Some Engines tell the gateway they were given, others also the one they chose.
    return [*unlike, "gateways"] if _contradict(here.gateways, there.gateways) else unlike


def _contradict(some: Sequence[IPAddress], others: Sequence[IPAddress]) -> bool:
    return bool(some) and bool(others) and set(some) != set(others)


def _foreign(network: Here) -> str:
    made = f"driver {network.shape.driver} and IPAM driver {network.shape.ipam_driver}"
    return f"a network with {made} has this name here and is left alone: remove it to have the cluster's"


def command(shape: NetworkShape) -> str:
    """What a user types to make the network."""
    flags = [f"--{name}" for name in ("internal", "attachable", "ipv6") if getattr(shape, name)]
    flags += [] if shape.ipv4 else ["--ipv4=false"]
    drivers = ("-d", shape.driver, "--ipam-driver", shape.ipam_driver)
    return shlex.join(["docker", "network", "create", *drivers, *flags, *_arguments(shape), shape.name])


def _arguments(shape: NetworkShape) -> Iterator[str]:
    addressed = (("--subnet", shape.pools), ("--ip-range", shape.ranges), ("--gateway", shape.gateways))
    paired = (
        ("--aux-address", shape.reserved),
        ("--ipam-opt", shape.ipam_options),
        ("-o", shape.options),
        ("--label", shape.labels),
    )
    for option, values in addressed:
        for value in values:
            yield from (option, str(value))
    for option, pairs in paired:
        for name, text in pairs:
            yield from (option, f"{name}={text}")
