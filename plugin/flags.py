"""What all commands share: settings as flags, and errors as sentences."""

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TypeVar

import click

from plugin.settings import Settings, SettingsError

Command = TypeVar("Command", bound=Callable[..., Any])


class WrongSettings(click.ClickException):
    exit_code = 2


def settings_flags(command: Command, besides: Collection[str] = ()) -> Command:
    """A flag for every setting, named like its field."""
    for f in reversed([f for f in fields(Settings) if f.name not in besides]):
        about = f.metadata
        shown = f"{about['help']}  [{about['env']}{', default ' + about['default'] if about['default'] else ''}]"
        command = click.option(f"--{f.name.replace('_', '-')}", f.name, metavar="VALUE", help=shown)(command)
    return command


def read_settings(flags: dict[str, str | None]) -> Settings:
    """What the environment says, unless a flag says otherwise."""
    names = {f.name: f.metadata["env"] for f in fields(Settings)}
    return Settings.read({**os.environ, **{names[flag]: text for flag, text in flags.items() if text is not None}})


@contextmanager
def sentences() -> Iterator[None]:
    """What can go wrong for an operator ends in one sentence, not in a traceback."""
    from driver.errors import DriverError
    from ipam.errors import IpamError
    from plugin import client, state_dir
    from plugin.migrate import Collision
    from store.interface import Contended, StoreUnavailable

    sentences = (DriverError, IpamError, StoreUnavailable, Contended, Collision)
    try:
        yield
    except SettingsError as error:
        raise WrongSettings(str(error)) from None
    except (*sentences, client.NotRunning, client.Refused, state_dir.Busy) as error:
        raise click.ClickException(str(error)) from None
