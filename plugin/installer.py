"""Looks at the host for plugin/install.py, and does the steps that it decided on. `root` is where the host's `/` is."""

import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib import resources
from pathlib import Path

from cluster.dockerd import Dockerd, EngineUnavailable
from plugin import client, daemon_json, install
from plugin.install import CannotInstall, CannotTell, Seen
from plugin.settings import Settings
from plugin.steps import Folder, Remove, Step, Systemctl, Write

_RESOLV_CONF = ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf")  # the first has what lies behind systemd's own


def look(root: Path, state_dir: str) -> Seen:
    found = (daemon_json.nameservers(_text(root, path)) for path in _RESOLV_CONF)
    return Seen(
        unit=_text(root, install.UNIT),
        stand_in=_text(root, install.STAND_IN_UNIT),
        environment=_text(root, install.ENVIRONMENT),
        daemon_json=_text(root, install.DAEMON_JSON),
        dns_added=_text(root, f"{state_dir}/{install.DNS_ADDED}"),
        nameservers=next(filter(None, found), ()),
        outdated=_outdated(root),
    )


def _outdated(root: Path) -> bool:
    """An installation may have ended between writing a file and the restart."""
    began = _service_start() if root == Path("/") else None
    paths = [_at(root, path) for path in (install.UNIT, install.ENVIRONMENT)]
    return began is not None and any(path.exists() and path.stat().st_mtime > began for path in paths)


def _service_start() -> float | None:
    """In seconds since the epoch; None if the service does not run."""
    asked = ["systemctl", "show", "--property=ActiveState,ExecMainStartTimestampMonotonic", install.SERVICE]
    try:
        told = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    except FileNotFoundError:
        return None
    said = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
    if said.get("ActiveState") in (None, "inactive", "failed"):
        return None
    return time.time() - time.monotonic() + int(said.get("ExecMainStartTimestampMonotonic") or 0) / 1e6


def unit(name: str = install.SERVICE) -> str:
    return resources.files("plugin").joinpath(name).read_text()


def program() -> str:
    """This flannelpy's command."""
    return str(Path(sysconfig.get_path("scripts")) / "flannelpy")


def read_from() -> list[str]:
    """All that this flannelpy needs to start: program, interpreter, standard library, packages. A virtual environment
    in a fine place may be made of links to a Python in somebody's home, and an editable installation leads there."""
    paths = [Path(program()), Path(sys.executable), Path(sys.base_prefix), Path(__file__)]
    return list(dict.fromkeys(str(each) for path in paths for each in (path, path.resolve())))


def refuse_without_systemd(root: Path) -> None:
    if root == Path("/") and not Path("/run/systemd/system").is_dir():  # `man sd_booted`
        raise CannotInstall(
            "systemd is not running on this host: start `flannelpy serve` by other means, before dockerd"
        )


def refuse_beside_another(settings: Settings) -> None:
    """The service could not start, and Docker's containers would ask a resolver that may not be there."""
    for path in settings.socket:
        try:
            with suppress(client.Refused, client.UnknownCall):  # an answer all the same
                client.ask(path, "/Plugin.Activate")
        except (client.NotRunning, client.NotAllowed):
            continue
        raise CannotInstall(
            f"another flannelpy answers on {path}, a managed plugin or a `flannelpy serve`: disable or stop it first; "
            f"for the managed plugin, {install.DAEMON_JSON} is written by hand"
        )


def refuse_while_used(settings: Settings) -> None:
    """Containers of these networks could be neither started nor removed afterwards."""
    names = {path.stem for path in settings.socket}
    try:
        shapes = [network.shape for network in Dockerd(settings.docker).listed()]
    except EngineUnavailable as error:
        raise CannotTell(f"cannot tell whether Docker has flannelpy networks ({error}): start Docker") from None
    if ours := sorted(shape.name for shape in shapes if {shape.driver, shape.ipam_driver} & names):
        raise CannotInstall(f"Docker has networks of flannelpy's, {', '.join(ours)}: {install.REMOVE_HERE}")


def do(steps: Iterable[Step], root: Path) -> None:
    try:
        for step in steps:
            _do(step, root)
    except OSError as error:
        raise CannotInstall(f"stopped at `{str(step).splitlines()[0]}`: {error}") from None


def _do(step: Step, root: Path) -> None:
    match step:
        case Folder(path, mode):
            folder = _at(root, path)
            if not folder.is_dir():
                folder.mkdir(mode=mode, parents=True)
        case Write(path, text, mode):
            _write(_at(root, path), text, mode)
        case Remove(path):
            _at(root, path).unlink(missing_ok=True)
        case Systemctl(words):
            _systemctl(words, root)


def _write(path: Path, text: str, mode: int | None) -> None:
    """Whole or not at all. A new file is closed to others before there is anything in it."""
    if mode is None:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    path = path.resolve()  # a link stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.new")
    draft.touch(0o600)
    draft.write_text(text)
    draft.chmod(mode)
    draft.replace(path)


def _systemctl(words: tuple[str, ...], root: Path) -> None:
    """Below another root nothing runs: there, only what starts with the host is changed."""
    command = ["systemctl", *words]
    if root != Path("/"):
        if words[0] not in ("enable", "disable"):
            return
        command = ["systemctl", f"--root={root}", words[0], words[-1]]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except FileNotFoundError:
        raise CannotInstall("systemctl is not on PATH") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise CannotInstall(f"`{' '.join(command)}` failed: {said}")


def _text(root: Path, path: str) -> str:
    try:
        return _at(root, path).read_text()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise CannotInstall(f"{path} cannot be read: {error}") from None


def _at(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
