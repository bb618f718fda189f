"""The operator's tables: what fits a terminal, with colours only on one.

What others chose, such as names, is put into Text: rich would take `[web]` for markup, and `:a:` for an emoji."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]
MANY = 3  # names shown of a list
UNFOLDED = 10_000  # columns where no terminal is: a program that reads a table wants its lines whole


def console() -> Console:
    found = Console(emoji=False, highlight=False)
    return found if found.is_terminal else Console(emoji=False, highlight=False, width=UNFOLDED)


def show_status(console: Console, status: Row) -> None:
    store, lease = status["store"], status["lease"]
    away = f"away for {duration(store['away_for'])}" if store["away_for"] is not None else "answers"
    silent = ", ".join(status["silent_hosts"])
    facts = {
        "host": f"{status['host']}, flannelpy {status['version']}",
        "store": f"{store['address']}, {away}",
        "lease": _lease(lease),
        "underlay": _underlay(status["underlay"]),
        "networks": f"{status['networks']} on this host, with {status['endpoints']} endpoints{_apart(status['apart'])}",
        "addresses": f"{status['addresses']} in use here, from blocks held: {status['blocks']}",
        "hosts": str(status["hosts"]) + (f", without a sign of life: {silent}" if silent else ""),
    }
    width = max(map(len, facts))
    for name, text in facts.items():
        _line(console, (f"{name:<{width}}", "bold"), f"  {text}")
    for problem in status["problems"]:
        _line(console, ("problem", "red"), f"  {problem}")
    if not status["problems"]:
        _line(console, ("all is well", "green"))


def _apart(names: Sequence[str]) -> str:
    return f"; not as in the cluster, see `flannelpy networks`: {_few(names)}" if names else ""


def _underlay(underlay: Row | None) -> str:
    return f"{underlay['dev']}, MTU {underlay['mtu']}, {', '.join(underlay['addresses'])}" if underlay else "none found"


def _lease(lease: Row) -> str:
    if lease["silent_for"] is None:
        return f"none yet; {duration(lease['ttl'])} from the first beat"
    return f"renewed {duration(lease['silent_for'])} ago, lasts {duration(lease['ttl'])}"


def show_hosts(console: Console, hosts: Sequence[Row]) -> None:
    rows = [
        (
            Text(host["name"], "bold" if host["here"] else ""),
            _life(host),
            ", ".join(host["addresses"]) or "-",
            _few(host["networks"]),
            host["blocks"],
            host["given"],
        )
        for host in hosts
    ]
    _table(console, ("HOST", "LIFE", "ADDRESS", "NETWORKS", "#BLOCKS", "#GIVEN"), rows)


def _life(host: Row) -> str | Text:
    if host["given_up"]:
        return Text("given up", "red")
    if host["here"]:
        return "here"
    return "-" if host["silent_for"] is None else f"seen {duration(host['silent_for'])} ago"


def show_networks(console: Console, networks: Sequence[Row]) -> None:
    rows = [
        (
            network["name"] or "-",
            " ".join([_spaced(network["space"], network["pool"]), *network["more_pools"]]),
            network["backend"] or "addresses only",
            _number(network["vni"]),
            _number(network["mtu"]),
            _few(network["hosts"]),
            network["blocks"],
            f"{network['given']} of {network['size']}",
        )
        for network in networks
    ]
    _table(console, ("NETWORK", "POOL", "BACKEND", "#VNI", "#MTU", "HOSTS", "#BLOCKS", "#GIVEN"), rows)
    for network in networks:
        if network["spread"]:
            _line(console, (_spaced(network["space"], network["pool"]), "yellow"), f"  {network['spread']}")


def show_addresses(console: Console, addresses: Sequence[Row]) -> None:
    rows = [
        (
            entry["address"],
            entry["host"],
            entry["use"],
            entry["container"] or "-",
            entry["network"] or "-",
            _spaced(entry["space"], entry["pool"]),
        )
        for entry in addresses
    ]
    _table(console, ("ADDRESS", "HOST", "USE", "CONTAINER", "NETWORK", "POOL"), rows)


def show_diagnosis(console: Console, diagnosis: Row) -> None:
    for finding in diagnosis["findings"]:
        colour = "red" if finding["severity"] == "error" else "yellow"
        _line(console, (finding["severity"], colour), f"  {_told(finding)}")
    if not diagnosis["findings"]:
        _line(console, ("nothing wrong was found", "green"))
    if diagnosis["left_out"]:
        _line(console, f"{diagnosis['asked']} other hosts were asked, {diagnosis['left_out']} were not")


def show_trace(console: Console, trace: Row) -> None:
    _line(console, (f"{trace['source']} -> {trace['to']}", "bold"))
    colours = {"ok": "green", "wrong": "red", "cannot tell": "yellow"}
    width = max((len(hop["hop"]) for hop in trace["hops"]), default=0)
    for hop in trace["hops"]:
        _line(console, f"{hop['hop']:<{width}}  ", (hop["state"], colours[hop["state"]]), f"  {_told(hop)}")


def _told(row: Row) -> str:
    return f"{row['says']}\n    {row['cure']}" if row["cure"] else str(row["says"])


def _line(console: Console, *parts: str | tuple[str, str]) -> None:
    """Parts are text, or text and style. A terminal folds the line, so that it can be copied whole."""
    console.print(Text.assemble(*parts), soft_wrap=True)


def _table(console: Console, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A column whose name begins with # is of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        number = column.startswith("#")
        table.add_column(column.lstrip("#"), justify="right" if number else "left", overflow="fold", no_wrap=number)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    console.print(table)


def _spaced(space: str, pool: str) -> str:
    return f"{space}@{pool}" if space else pool


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _few(names: Sequence[str]) -> str:
    more = len(names) - MANY
    return ", ".join(names[:MANY]) + (f" and {more} more" if more > 0 else "") if names else "-"


def duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
