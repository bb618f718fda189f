"""The commands that make flannelpy a service of this host, and end that."""

import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click

from plugin.flags import json_flag, sentences, settings_flags, show_json
from plugin.install import (
    DAEMON_JSON,
    ENVIRONMENT,
    STAND_IN,
    CannotInstall,
    Seen,
    Wanted,
    install_steps,
    uninstall_steps,
    variables,
)
from plugin.settings import Settings, SettingsError
from plugin.steps import Step, Write
from store.credentials import VARIABLES


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--root", default="/", metavar="DIR", help="where the host's / is, to prepare an image"),
        click.option("--yes", is_flag=True, help="do not ask"),
        click.option("--dry-run", is_flag=True, help="only show what would be done"),
        json_flag,
    ):
        command = option(command)
    return command


@click.command()
@click.option(
    "--docker-dns", metavar="ADDRESS[,ADDRESS]", help="have Docker's containers ask these servers for names first"
)
@_common
@settings_flags
def install(docker_dns: str | None, root: str, yes: bool, dry_run: bool, as_json: bool, **flags: str | None) -> None:
    """Make flannelpy a systemd service. The settings given as flags are the service's.

    Shows what it will do, and asks. Settings given earlier stay, in /etc/flannelpy.env. Those that the shell
    exports are no service's: refused, if they say something else."""
    from plugin import installer

    with sentences():
        installer.refuse_without_systemd(Path(root))
        given = _variables(flags)
        settings, seen = _look(root, given)
        _refuse_exported({**variables(seen.environment), **given})
        _refuse_another_resolver(docker_dns, settings)
        alone = root != "/" or seen.unit
        refuse = (lambda: None) if alone else partial(installer.refuse_beside_another, settings)
        program, state_dir = installer.program(), str(settings.state_dir)
        units = (installer.unit(), installer.unit(STAND_IN))
        wanted = Wanted(*units, program, installer.read_from(), state_dir, given, _addresses(docker_dns))
        _carry_out(install_steps(seen, wanted), refuse, root, yes=yes, dry_run=dry_run, as_json=as_json)


@click.command()
@_common
@partial(settings_flags, only=["socket", "docker"])
def uninstall(root: str, yes: bool, dry_run: bool, as_json: bool, **flags: str | None) -> None:
    """Undo `install`. Refused while Docker has networks of flannelpy's.

    The state directory stays, as the addresses that this host holds do: `flannelpy leave` gives them back."""
    from plugin import installer

    with sentences():
        installer.refuse_without_systemd(Path(root))
        given = _variables(flags)
        settings, seen = _look(root, given)
        refuse = partial(installer.refuse_while_used, settings) if root == "/" else lambda: None
        steps = uninstall_steps(seen, str(settings.state_dir))
        _carry_out(steps, refuse, root, yes=yes, dry_run=dry_run, as_json=as_json)


def _variables(flags: dict[str, str | None]) -> dict[str, str]:
    names = {f.name: f.metadata["env"] for f in fields(Settings)}
    return {names[flag]: text for flag, text in flags.items() if text is not None}


def _refuse_exported(settled: dict[str, str]) -> None:
    """A service has nothing of this shell; who exports a setting would take it for installed."""
    for f in fields(Settings):
        name = f.metadata["env"]
        if (exported := os.environ.get(name)) and settled.get(name) != exported:
            flag = f"--{f.name.replace('_', '-')}"
            raise CannotInstall(
                f"{name} is {exported!r} in this shell, which no service sees: give {flag}, or unset it"
            )
    for name in VARIABLES:
        if (exported := os.environ.get(name)) and settled.get(name) != exported:
            raise CannotInstall(
                f"{name} is set in this shell, which no service sees: write it into {ENVIRONMENT}, or unset it"
            )


def _refuse_another_resolver(docker_dns: str | None, settings: Settings) -> None:
    """Docker's containers would ask an address at which nobody answers."""
    ours = [str(address) for address in settings.dns]
    if not {*_addresses(docker_dns)} <= {*ours}:
        ours_said = ",".join(ours) or "off"
        raise CannotInstall(
            f"--docker-dns is {docker_dns}, and FLANNELPY_DNS is {ours_said}: the first must be of the second"
        )


def _look(root: str, given: dict[str, str]) -> tuple[Settings, Seen]:
    """The settings that it will have, checked, and what is there."""
    from plugin import installer

    kept = variables(installer.look(Path(root), str(Settings().state_dir)).environment)
    ours = {name: text for name, text in kept.items() if name.startswith("FLANNELPY_")}
    try:
        settings = Settings.read({**ours, **given})
    except SettingsError as error:
        raise SettingsError(f"{error} (flags, and {ENVIRONMENT})") from None
    return settings, installer.look(Path(root), str(settings.state_dir))


def _addresses(text: str | None) -> list[str]:
    try:
        return [str(ip_address(each)) for each in text.split(",")] if text is not None else []
    except ValueError:
        raise CannotInstall(f"--docker-dns is {text!r}: it must be an IP address, or some with commas") from None


def _carry_out(
    steps: Sequence[Step], refuse: Callable[[], None], root: str, *, yes: bool, dry_run: bool, as_json: bool
) -> None:
    """`refuse` raises what speaks against it; asked again once somebody agreed, who may have taken his time."""
    refuse()
    if as_json and not yes and not dry_run:
        raise click.UsageError("--json does not ask: give --yes or --dry-run with it")
    if not as_json:
        click.echo("\n".join(map(str, steps)) or "There is nothing to do.")
    if steps and not dry_run:
        _do(steps, refuse, root, yes=yes)
    restart_docker = any(isinstance(step, Write) and step.path == DAEMON_JSON for step in steps)
    if as_json:
        show_json({"steps": [str(step) for step in steps], "done": not dry_run, "restart_docker": restart_docker})
    elif restart_docker and not dry_run:
        click.echo("Docker reads daemon.json when it starts: `systemctl restart docker`, when that suits.")


def _do(steps: Sequence[Step], refuse: Callable[[], None], root: str, *, yes: bool) -> None:
    from plugin import installer

    if os.geteuid() != 0 and root == "/":
        raise CannotInstall("this needs root; --dry-run does not")
    if not yes:
        click.confirm("Do this?", abort=True)
        refuse()
    installer.do(steps, Path(root))
