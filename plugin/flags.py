"""What all commands share: settings as flags, errors as sentences with an exit code, and JSON."""

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import click

from operations.version import version
from plugin import install
from plugin.install import CannotInstall, CannotTell
from plugin.settings import Settings, SettingsError

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])
Flags = Mapping[str, str | None]  # by field of Settings
ENVIRONMENT = Path(install.ENVIRONMENT)


class WrongSettings(click.ClickException):
    exit_code = 2


class Unanswered(click.ClickException):
    """Store, Docker or flannelpy could not be asked. So nothing is known, neither that all is well nor that it is not:
    whoever watches by exit code must be able to tell this from 1, an answer that something is wrong."""

    exit_code = 3


class OtherVersion(Unanswered):
    """An update is installed before the service is restarted."""

    def __init__(self) -> None:
        super().__init__(
            f"this command is of flannelpy {version()}, and the one that runs is of another version: restart it"
        )


ALL = tuple(f.name for f in fields(Settings))
json_flag = click.option("--json", "as_json", is_flag=True, help="for programs; docs/commands.md says what is in it")


def show_json(answer: Any) -> None:
    click.echo(json.dumps(answer, indent=2))


def settings_flags(command: Command, only: Collection[str] = ALL) -> Command:
    """A flag for each of these settings, named like its field."""
    for f in reversed([f for f in fields(Settings) if f.name in only]):
        about = f.metadata
        shown = f"{about['help']}  [{about['env']}{', default ' + about['default'] if about['default'] else ''}]"
        command = click.option(f"--{f.name.replace('_', '-')}", f.name, metavar="VALUE", help=shown)(command)
    return command


socket_flag = partial(settings_flags, only=["socket"])  # all that who asks a running flannelpy needs to know


def read_settings(flags: Flags, kept: Mapping[str, str] = MappingProxyType({})) -> Settings:
    """What the environment says, unless a flag says otherwise; `kept` is for what neither says."""
    names = {f.name: f.metadata["env"] for f in fields(Settings)}
    given = {names[flag]: text for flag, text in flags.items() if text is not None}
    return Settings.read({**kept, **os.environ, **given})


def read_service_settings(flags: Flags) -> Settings:
    """What the service of this host runs with, unless the environment or a flag says otherwise.

    Consul's own variables go into the environment, where the store looks for them."""
    kept = _service_environment()
    for name, value in kept.items():
        if name.startswith("CONSUL_"):
            os.environ.setdefault(name, value)
    return read_settings(flags, kept)


def _service_environment() -> dict[str, str]:
    """systemd reads the file for the service alone. Who may not read it is refused at the socket, with a sentence."""
    try:
        return install.variables(ENVIRONMENT.read_text())
    except (OSError, UnicodeDecodeError):
        return {}


@contextmanager
def sentences() -> Iterator[None]:
    """What can go wrong for an operator ends in one sentence, not in a traceback."""
    from driver.errors import DriverError
    from ipam.errors import IpamError
    from plugin import client
    from plugin.listening import Busy
    from store.codec import BadRecord
    from store.interface import Contended, StoreUnavailable

    try:
        yield
    except SettingsError as error:
        raise WrongSettings(str(error)) from None
    except client.UnknownCall:
        raise OtherVersion from None
    except (StoreUnavailable, Contended, client.NotRunning, client.NotAllowed, client.NotNow, CannotTell) as error:
        raise Unanswered(str(error)) from None
    except (DriverError, IpamError, BadRecord, client.Refused, Busy, CannotInstall) as error:
        raise click.ClickException(str(error)) from None


def part(answer: Any, name: str, kind: Any) -> Any:
    """Of an answer. One of another version may lack what the command goes on with: the rest of it must not look."""
    import msgspec

    try:
        msgspec.convert(answer[name], kind)
    except (KeyError, msgspec.ValidationError):
        raise OtherVersion from None
    return answer[name]


def decoded(answer: Any, name: str, kind: type[T]) -> T:
    """A part that holds a record (store/codec.py)."""
    from store.codec import BadRecord, decode

    try:
        return decode(kind, part(answer, name, str).encode())
    except BadRecord:
        raise OtherVersion from None
