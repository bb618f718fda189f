"""What `flannelpy install` and `uninstall` would change on this host. Pure: from what the files hold to the steps."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath

from plugin import daemon_json
from plugin.steps import Folder, Remove, Step, Systemctl, Write

SERVICE = "flannelpy.service"
STAND_IN = "flannelpy-stand-in.service"  # answers Docker while flannelpy does not run
UNIT, STAND_IN_UNIT = f"/etc/systemd/system/{SERVICE}", f"/etc/systemd/system/{STAND_IN}"
ENVIRONMENT = "/etc/flannelpy.env"
DAEMON_JSON = "/etc/docker/daemon.json"
DNS_ADDED = "docker-dns"  # in the state directory: what was added to daemon.json
PROGRAM = "/opt/flannelpy/bin/flannelpy"  # in both units; the stand-in's is beside it, and its name begins so
# Docker's removal of a network is copied to the other hosts like its creation; docs/install.md has the whole procedure.
REMOVE_HERE = (
    "restart flannelpy with FLANNELPY_PROPAGATE=false, or all hosts lose them, then remove them with docker network rm"
)
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108, by the unit's ProtectHome and PrivateTmp


class CannotInstall(Exception):
    """The message is one sentence."""


class CannotTell(CannotInstall):
    """Somebody who had to be asked does not answer."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is on the host: texts of files, empty where there is none."""

    unit: str = ""
    stand_in: str = ""
    environment: str = ""
    daemon_json: str = ""
    dns_added: str = ""
    nameservers: Sequence[str] = ()  # that the host itself asks
    outdated: bool = False  # the service runs, and was started before unit or settings were written last


@dataclass(frozen=True, slots=True)
class Wanted:
    unit: str  # plugin/flannelpy.service
    stand_in: str  # plugin/flannelpy-stand-in.service
    program: str  # this flannelpy
    read: Sequence[str]  # where it is read from: itself, its Python, its packages; links followed, and as they stand
    state_dir: str
    settings: Mapping[str, str]  # by variable: those given as flags
    docker_dns: Sequence[str] = ()


def install_steps(seen: Seen, wanted: Wanted) -> list[Step]:
    """The files that differ, and a service that runs with them."""
    environment = merged(seen.environment, wanted.settings)
    _refuse_hidden(wanted.read, variables(environment))
    files: list[Step] = []
    if environment != seen.environment:
        files.append(Write(ENVIRONMENT, environment, 0o600))
    if units := list(_unit_steps(seen, wanted)):
        files += [*units, Systemctl(("daemon-reload",))]
    enable = [Systemctl(("enable", STAND_IN)), Systemctl(("enable", "--now", SERVICE))]
    restart = [Systemctl(("restart", SERVICE))] if (files and seen.unit) or seen.outdated else []
    folder = Folder(wanted.state_dir, 0o700)
    return [folder, *files, *enable, *restart, *_dns_steps(seen, wanted)]


def _unit_steps(seen: Seen, wanted: Wanted) -> Iterator[Write]:
    for path, found, text in ((UNIT, seen.unit, wanted.unit), (STAND_IN_UNIT, seen.stand_in, wanted.stand_in)):
        unit = text.replace(PROGRAM, wanted.program)
        if unit != found:
            yield Write(path, unit, 0o644)


def uninstall_steps(seen: Seen, state_dir: str) -> list[Step]:
    """The state directory stays: it says which addresses this host holds."""
    steps = list(_dns_undone(seen, state_dir))
    for service, path, found in ((SERVICE, UNIT, seen.unit), (STAND_IN, STAND_IN_UNIT, seen.stand_in)):
        if found:
            steps += [Systemctl(("disable", "--now", service)), Remove(path)]
    if seen.unit or seen.stand_in:
        steps.append(Systemctl(("daemon-reload",)))
    if seen.environment:
        steps.append(Remove(ENVIRONMENT))
    return steps


def _refuse_hidden(read: Iterable[str], settings: Mapping[str, str]) -> None:
    """What the unit keeps from the service would be missing at its start only, in words of the system's."""
    for path in filter(_is_hidden, read):
        raise CannotInstall(
            f"this flannelpy is read from {path}, which the service cannot see: make a virtual environment with "
            f"`/usr/bin/python3 -m venv {PurePath(PROGRAM).parents[1]}`, install it there without -e, and type "
            "this with that one"
        )
    for name, value in settings.items():
        if _is_hidden(value):
            raise CannotInstall(
                f"{name} is {value!r}, which the service cannot see: put it elsewhere than below {', '.join(HIDDEN)}"
            )


def _is_hidden(path: str) -> bool:
    return any(PurePath(path).is_relative_to(hidden) for hidden in HIDDEN)


def variables(text: str) -> dict[str, str]:
    """Of an environment file, as systemd reads it (but for backslashes)."""
    lines = [line.strip() for line in text.splitlines()]
    pairs = [line.partition("=") for line in lines if "=" in line and line[0] not in "#;"]
    return {name.strip(): _unquoted(value.strip()) for name, _, value in pairs}


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def merged(text: str, settings: Mapping[str, str]) -> str:
    """The environment file with these settings; every other line stays as it is."""
    left = {name: value for name, value in settings.items() if variables(text).get(name) != value}
    kept = [line for line in text.splitlines() if not variables(line).keys() & left.keys()]
    return "".join(f"{line}\n" for line in [*kept, *(f"{name}={value}" for name, value in left.items())])


def _dns_steps(seen: Seen, wanted: Wanted) -> Iterator[Step]:
    if not wanted.docker_dns:
        return
    with _named():
        if not seen.nameservers and not daemon_json.servers(seen.daemon_json):
            raise daemon_json.Unusable(
                "it has no dns entry, and this host uses no DNS server that containers can reach (neither "
                "loopback nor fe80::, and without a zone): add one there"
            )
        text = daemon_json.with_dns(seen.daemon_json, wanted.docker_dns, seen.nameservers)
        added = [*json.loads(seen.dns_added or "[]"), *daemon_json.added(seen.daemon_json, text)]
    if daemon_json.same(text, seen.daemon_json):
        return
    yield Write(str(PurePath(wanted.state_dir) / DNS_ADDED), json.dumps(added) + "\n", 0o600)
    yield Folder(str(PurePath(DAEMON_JSON).parent), 0o755)
    yield Write(DAEMON_JSON, text)


def _dns_undone(seen: Seen, state_dir: str) -> Iterator[Step]:
    if not seen.dns_added:
        return
    with _named():
        text = daemon_json.without_dns(seen.daemon_json, json.loads(seen.dns_added))
    if not daemon_json.same(text, seen.daemon_json):
        yield Write(DAEMON_JSON, text)
    yield Remove(str(PurePath(state_dir) / DNS_ADDED))


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except daemon_json.Unusable as error:
        raise CannotInstall(f"{DAEMON_JSON} cannot be changed: {error}") from None
