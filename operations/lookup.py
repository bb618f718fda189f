"""Whether a container is told another's name: asked from inside, as a program there would ask."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from driver.kernel.namespaces import within
from names.question import ask
from names.zone import DOMAIN
from store.ip import IPAddress, IPNetwork

DOCKERS = "127.0.0.11"  # Docker's resolver in every container of a network that a user made
PATIENCE = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Question:
    container: str  # that asks
    pid: int  # of its first process
    name: str  # of the container that it asks for
    address: IPAddress  # what it should be told
    resolver: IPAddress  # whom Docker should ask for it


@dataclass(frozen=True, slots=True)
class Questions:
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Lookup:
    question: Question
    told: tuple[str, ...]
    why: str  # if nothing was told

    @property
    def right(self) -> bool:
        return str(self.question.address) in self.told


@dataclass(frozen=True, slots=True)
class Lookups:
    lookups: tuple[Lookup, ...]


def whom_to_ask(resolvers: Iterable[IPAddress], speaks: Iterable[IPAddress | IPNetwork]) -> IPAddress | None:
    """The resolver's address that who has addresses of these families can reach, if there is one."""
    versions = {each.version for each in speaks}
    return next((resolver for resolver in resolvers if resolver.version in versions), None)


def look_up(question: Question) -> Lookup | None:
    """None where the container cannot be entered."""
    name, version = full_name(question), question.address.version
    try:
        told, why = within(f"/proc/{question.pid}/ns/net", lambda: ask(name, version, DOCKERS, PATIENCE))
    except OSError:
        return None
    return Lookup(question, told, why)


def look_up_all(questions: Sequence[Question]) -> Lookups:
    """Side by side: each may take its whole PATIENCE."""
    with ThreadPoolExecutor(max(1, len(questions))) as pool:
        return Lookups(tuple(lookup for lookup in pool.map(look_up, questions) if lookup is not None))


def full_name(question: Question) -> str:
    """One that Docker does not answer by itself."""
    return f"{question.name}.{DOMAIN}"


def explain(lookup: Lookup) -> tuple[str, str]:
    """What is wrong, and what to do."""
    asked, told = lookup.question, f"it was told {', '.join(lookup.told)}" if lookup.told else lookup.why
    return (
        f"{asked.container} asked for {full_name(asked)}, which is {asked.address}, and {told}",
        f'write "dns": ["{asked.resolver}", ...] into /etc/docker/daemon.json, the servers that this host asks behind '
        f"it (`flannelpy install --docker-dns {asked.resolver}` does so where flannelpy is a systemd service, not "
        "where it is a managed plugin); restart Docker and the container, and give it no --dns of its own; "
        "FLANNELPY_DNS=off where nobody needs names",
    )
