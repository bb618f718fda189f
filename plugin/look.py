"""The commands that only look: each asks a running flannelpy, and shows a table or JSON."""

from typing import Any

import click

from operations import model
from plugin.flags import decoded, json_flag, part, read_service_settings, sentences, show_json, socket_flag
from plugin.progress import waiting


@click.command()
@json_flag
@socket_flag
def status(as_json: bool, **flags: str | None) -> None:
    """This host and the cluster at a glance. Exit code 1 if there is a problem."""
    answer = part(_asked("/Flannelpy.Status", flags), "Status", model.Status)
    _show(answer, as_json, "show_status")
    if answer["problems"]:
        raise SystemExit(1)


@click.command()
@json_flag
@socket_flag
def hosts(as_json: bool, **flags: str | None) -> None:
    """The hosts of the cluster: alive or silent, and what they hold."""
    _show(part(_asked("/Flannelpy.Hosts", flags), "Hosts", list[model.Host]), as_json, "show_hosts")


@click.command()
@json_flag
@socket_flag
def networks(as_json: bool, **flags: str | None) -> None:
    """The networks of the cluster, whether this host has them or not."""
    _show(part(_asked("/Flannelpy.Networks", flags), "Networks", list[model.Network]), as_json, "show_networks")


@click.command()
@click.argument("address", required=False)
@json_flag
@socket_flag
def addresses(address: str | None, as_json: bool, **flags: str | None) -> None:
    """Who has which address, or that one ADDRESS. Exit code 1 if nobody has it."""
    answer = _asked("/Flannelpy.Addresses", flags, **({"Address": address} if address is not None else {}))
    found = part(answer, "Addresses", list[model.Address])
    if found or as_json or address is None:
        _show(found, as_json, "show_addresses")
    else:
        blocks = part(answer, "Blocks", list[dict[str, str]])
        where = [f"; block {block['block']} is held by host {block['host']}" for block in blocks]
        click.echo(f"nobody has {address}{''.join(where)}")
    if address is not None and not found:
        raise SystemExit(1)


@click.command()
@json_flag
@socket_flag
def doctor(as_json: bool, **flags: str | None) -> None:
    """What is wrong here, or between here and other hosts. Says what to do, too. Exit code 1 if anything is wrong."""
    from operations.lookup import Questions, look_up_all
    from store.codec import encode

    with waiting("looking, and asking other hosts"):
        asked = decoded(_asked("/Flannelpy.Questions", flags), "Questions", Questions).questions
        lookups = encode(look_up_all(asked)).decode()
        answer = part(_asked("/Flannelpy.Doctor", flags, Lookups=lookups), "Diagnosis", model.Diagnosis)
    _show(answer, as_json, "show_diagnosis")
    if answer["findings"]:
        raise SystemExit(1)


@click.command()
@click.argument("source", metavar="A")
@click.argument("to", metavar="B")
@json_flag
@socket_flag
def trace(source: str, to: str, as_json: bool, **flags: str | None) -> None:
    """Follow a packet from container A of this host to B. Names or addresses. Exit code 1 if a hop is wrong."""
    from operations.visit import Doors, Visits, visit
    from store.codec import encode

    ends = {"From": source, "To": to}
    with waiting("following a packet"):
        doors = decoded(_asked("/Flannelpy.Doors", flags, **ends), "Doors", Doors)
        visits = encode(Visits(tuple(visit(door) for door in doors.doors), doors.dropped)).decode()
        answer = part(_asked("/Flannelpy.Trace", flags, **ends, Visits=visits), "Trace", model.TraceAnswer)
    _show(answer, as_json, "show_trace")
    if any(hop["state"] == "wrong" for hop in answer["hops"]):
        raise SystemExit(1)


def _asked(call: str, flags: dict[str, str | None], **arguments: str) -> Any:
    from plugin import client

    with sentences():
        return client.ask(read_service_settings(flags).socket[0], call, **arguments)


def _show(answer: Any, as_json: bool, table: str) -> None:
    if as_json:
        show_json(answer)
        return
    from plugin import tables

    getattr(tables, table)(tables.console(), answer)
