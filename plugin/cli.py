"""The command `flannelpy`. Imports what a command needs when it runs, so that `--help` is quick."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from plugin import look, service
from plugin.flags import WrongSettings, read_service_settings, read_settings, sentences, settings_flags, version
from plugin.progress import waiting
from plugin.settings import Settings, SettingsError

if TYPE_CHECKING:
    from plugin.parts import Parts

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(version(), prog_name="flannelpy")
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

    try:
        settings = read_settings(flags)
        if sentence := privileges.missing():
            raise state_dir.Busy(sentence)
        log.setup(settings.log)
        with state_dir.claim(settings.state_dir):
            _serve(state_dir.with_host(settings))
    except SettingsError as error:
        raise WrongSettings(str(error)) from None
    except state_dir.Busy as error:
        raise click.ClickException(str(error)) from None
    raise SystemExit(0)


@main.command()
@click.option("--host", "other", metavar="NAME", help="another host, that is gone for good")
@partial(settings_flags, besides=["host"])
def leave(other: str | None, **flags: str | None) -> None:
    """Give back the addresses that this host holds, so that others can have them at once."""
    from plugin import admin, client

    with sentences():
        settings = read_service_settings(flags)
        if other is not None:
            with waiting(f"watching for a sign of life of {other}"):
                said = _on_stopped(settings, lambda parts: admin.leave_for(parts, other), claim=False)
            click.echo(said)
            return
        try:
            click.echo(client.ask(settings.socket[0], "/Flannelpy.Leave")["Said"])
        except client.NotRunning:
            click.echo(_on_stopped(settings, admin.leave))


@main.command()
@click.option("--dry-run", is_flag=True, help="only show what Docker does not have")
@click.option("--json", "as_json", is_flag=True, help="for programs")
@settings_flags
def gc(dry_run: bool, as_json: bool, **flags: str | None) -> None:
    """Free what nobody has any more: what Docker was seen not to have a minute ago, and has not now.

    `flannelpy serve` does the same by itself twice a minute."""
    import json

    from plugin import client

    with sentences():
        answer = client.ask(
            read_service_settings(flags).socket[0], "/Flannelpy.Garbage" if dry_run else "/Flannelpy.Collect"
        )
    if as_json:
        click.echo(json.dumps({"found": answer["Found"], "freed": answer["Freed"]}))
        return
    for item in answer["Found"]:
        click.echo(f"{'to be freed' if dry_run else 'freed'}: {item}")
    click.echo(f"{len(answer['Found'])} now, {answer['Freed']} freed since flannelpy started")


@main.command()
@click.argument("url", metavar="consul://HOST:PORT")
@settings_flags
def migrate(url: str, **flags: str | None) -> None:
    """Move this host's networks from its embedded store to a Consul; flannelpy must be stopped meanwhile."""
    from plugin import state_dir
    from plugin.migrate import migrate as move
    from plugin.stores import open_store

    with sentences():
        settings = read_service_settings({**flags, "store": "sqlite"})
        target = read_service_settings({**flags, "store": url})
        with state_dir.claim(settings.state_dir):
            source, cluster = open_store(settings), open_store(target)
            try:
                moved = move(source, cluster)
            finally:
                source.close()
                cluster.close()
        click.echo(f"{moved} keys moved; start flannelpy with FLANNELPY_STORE={target.store}")


def _on_stopped(settings: Settings, act: Callable[["Parts"], str], *, claim: bool = True) -> str:
    """Do something with this host's records while no flannelpy has them."""
    from plugin import parts, state_dir

    with state_dir.claim(settings.state_dir) if claim else nullcontext():
        assembled = parts.assemble(state_dir.with_host(settings))
        try:
            return act(assembled)
        finally:
            assembled.close()


def _serve(settings: Settings) -> None:
    from plugin.app import create_app
    from plugin.server import serve

    serve(settings, create_app)


if __name__ == "__main__":
    main()
