"""The command `flannelpy`. Imports what a command needs when it runs, so that `--help` is quick."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

from operations.version import version
from plugin import look, service
from plugin.flags import (
    WrongSettings,
    json_flag,
    part,
    read_service_settings,
    read_settings,
    sentences,
    settings_flags,
    show_json,
    socket_flag,
)
from plugin.progress import waiting
from plugin.settings import Settings, SettingsError

if TYPE_CHECKING:
    from flask import Flask

    from plugin.parts import Parts

T = TypeVar("T")


def _show_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"flannelpy, version {version()}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def main() -> None:
    """Docker networks over many hosts: one pool of addresses, leased from Consul, no Swarm."""


LOOKING = (look.status, look.hosts, look.networks, look.addresses, look.doctor, look.trace)
for command in (*LOOKING, service.install, service.uninstall):
    main.add_command(command)


@main.command()
@settings_flags
def serve(**flags: str | None) -> NoReturn:
    """Run the plugin in the foreground."""
    from plugin import log, privileges, state_dir
    from plugin.credentials import refuse_unusable
    from plugin.listening import Busy

    try:
        settings = read_settings(flags)
        refuse_unusable(settings)
        if sentence := privileges.missing():
            raise Busy(sentence)
        log.setup(settings.log)
        with state_dir.claim(settings.state_dir):
            _serve(state_dir.with_host(settings))
    except SettingsError as error:
        raise WrongSettings(str(error)) from None
    except Busy as error:
        raise click.ClickException(str(error)) from None
    raise SystemExit(0)


@main.command()
@click.option("--host", "other", metavar="NAME", help="another host, that is gone for good")
@json_flag
@partial(settings_flags, only=["store", "cluster", "lease_ttl", "socket", "state_dir"])
def leave(other: str | None, as_json: bool, **flags: str | None) -> None:
    """Give back all that this host holds. Others can have these addresses at once, then."""
    with sentences():
        settings = read_service_settings(flags)
        host = _leave(settings) if other is None else _leave_for(settings, other)
    if as_json:
        show_json({"host": host})
    else:
        click.echo(f"host {host} holds nothing any more")


def _leave(settings: Settings) -> str:
    from plugin import admin, client

    try:
        return str(part(client.ask(settings.socket[0], "/Flannelpy.Leave"), "Host", str))
    except client.NotRunning:
        return _on_stopped(settings, admin.leave)


def _leave_for(settings: Settings, other: str) -> str:
    from plugin import admin

    with waiting(f"watching for a sign of life of {other}"):
        _on_stopped(settings, lambda parts: admin.leave_for(parts, other), claim=False)
    return other


@main.command()
@click.option(
    "--dry-run",
    is_flag=True,
    help="only show what Docker does not have now; it is freed once that has been so for a minute",
)
@json_flag
@socket_flag
def gc(dry_run: bool, as_json: bool, **flags: str | None) -> None:
    """Free what Docker no longer has. That is what it was seen not to have a minute ago, and has not now.

    `flannelpy serve` does the same by itself twice a minute."""
    from plugin import client

    call = "/Flannelpy.Garbage" if dry_run else "/Flannelpy.Collect"
    with sentences():
        answer = client.ask(read_service_settings(flags).socket[0], call)
    found, freed = part(answer, "Found", list[str]), part(answer, "Freed", int)
    if as_json:
        show_json({"found": found, "freed": freed})
        return
    for item in found:
        click.echo(f"{'suspected' if dry_run else 'freed'}: {item}")
    click.echo(f"{len(found)} now, {freed} freed since flannelpy started")


@main.command()
@click.argument("url", metavar="consul://HOST:PORT")
@json_flag
@partial(settings_flags, only=["cluster", "state_dir"])
def migrate(url: str, as_json: bool, **flags: str | None) -> None:
    """Move this host's networks from its own store to a Consul. Stop flannelpy before."""
    from plugin import state_dir
    from plugin.migrate import Collision
    from plugin.migrate import migrate as move
    from plugin.stores import open_store

    with sentences():
        settings = read_service_settings({**flags, "store": "sqlite"})
        target = read_service_settings({**flags, "store": url})
        with state_dir.claim(settings.state_dir):
            source, cluster = open_store(settings), open_store(target)
            try:
                moved = move(source, cluster)
            except Collision as error:
                raise click.ClickException(str(error)) from None
            finally:
                source.close()
                cluster.close()
    if as_json:
        show_json({"moved": moved, "store": str(target.store)})
    else:
        click.echo(f"{moved} keys moved; start flannelpy with FLANNELPY_STORE={target.store}")


def _on_stopped(settings: Settings, act: Callable[["Parts"], T], *, claim: bool = True) -> T:
    """Do something with this host's records while no flannelpy has them."""
    from plugin import parts, state_dir

    with state_dir.claim(settings.state_dir) if claim else nullcontext():
        assembled = parts.assemble(state_dir.with_host(settings))
        try:
            return act(assembled)
        finally:
            assembled.close()


def _serve(settings: Settings) -> None:
    from plugin.server import serve

    serve(settings, _create_app)


def _create_app(settings: Settings) -> "Flask":
    """Imported by the worker: the master does nothing but wait for it, and need not hold all that."""
    from plugin.app import create_app

    return create_app(settings)


if __name__ == "__main__":
    main()
