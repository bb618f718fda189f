"""The tables show what others chose, letter by letter, whatever rich would make of it."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from plugin import tables

LONG = "a-name-" * 20


def shown(capsys: pytest.CaptureFixture[str], show: str, rows: Any) -> str:
    """As a program sees it: what pytest captures is no terminal."""
    getattr(tables, show)(tables.console(), rows)
    return capsys.readouterr().out


def address(text: str, container: str = "web1") -> dict[str, str]:
    where = {"host": "h1", "network": "web", "space": "", "pool": "fd00::/8"}
    return {"address": text, "use": "container", "container": container, **where}


@pytest.mark.parametrize("text", ["fd00:a:100::5", "5a:ab:00:00:00:01", "[web]x", "[/x]", "[red]", ":a:", LONG])
def test_cells_are_shown_as_they_are(capsys: pytest.CaptureFixture[str], text: str) -> None:
    heading, row = shown(capsys, "show_addresses", [address(text, text)]).splitlines()
    assert row.split()[:4] == [text, "h1", "container", text]
    assert heading.split()[:2] == ["ADDRESS", "HOST"]


@pytest.mark.parametrize("text", ["fd00:a:100::5 is on 5a:ab:00:00:00:01", "[web]x", "[/x]", LONG])
def test_sentences_are_shown_as_they_are(capsys: pytest.CaptureFixture[str], text: str) -> None:
    finding = {"severity": "error", "says": text, "cure": ""}
    said = shown(capsys, "show_diagnosis", {"findings": [finding], "asked": 0, "left_out": 0})
    assert said == f"error  {text}\n"
    hop = {"hop": "route", "state": "wrong", "says": text, "cure": ""}
    assert shown(capsys, "show_trace", {"source": text, "to": "[b]", "hops": [hop]}).splitlines() == [
        f"{text} -> [b]",
        f"route  wrong  {text}",
    ]


def test_hosts_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    more = {"addresses": ["fd00:a:100::5"], "networks": [], "blocks": 1, "given": 2, "silent_for": None}
    hosts = [{"name": "[/h1]", "here": True, "given_up": False}, {"name": ":b:", "here": False, "given_up": True}]
    rows = shown(capsys, "show_hosts", [{**host, **more} for host in hosts]).splitlines()[1:]
    assert [" ".join(row.split()) for row in rows] == [
        "[/h1] here fd00:a:100::5 - 1 2",
        ":b: given up fd00:a:100::5 - 1 2",
    ]


def test_the_networks_that_are_not_as_in_the_cluster_are_named_at_a_glance_and_explained_below_the_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = {"space": "", "pool": "10.240.0.0/18", "more_pools": [], "hosts": ["h2"], "blocks": 1, "given": 2}
    about = {"backend": "vxlan", "vni": 7, "mtu": None, "size": 16384, "spread": "absent: type: docker [web]"}
    _, row, why = shown(capsys, "show_networks", [{"name": "web", **where, **about}]).splitlines()
    assert row.split()[:2] == ["web", "10.240.0.0/18"]
    assert why == "10.240.0.0/18  absent: type: docker [web]"
    assert tables._apart(["a", "b", "c", "d"]) == (
        "; not as in the cluster, see `flannelpy networks`: a, b, c and 1 more"
    )
    assert tables._apart([]) == ""


LARGE_NETWORK = {
    "name": "observability-backend",
    "pool": "10.240.0.0/18",
    "more_pools": ["fd77:aaaa:bbbb::/64"],
    "space": "",
    "backend": "wireguard",
    "vni": 1852805,
    "mtu": 1450,
    "blocks": 12,
    "given": 340,
    "size": 16384,
    "spread": None,
    "hosts": ["node-eu-west-1a", "node-eu-west-1b", "node-eu-west-1c", "node-eu-west-1d"],
}
LARGE_HOST = {
    "name": "node-eu-west-1a.example.internal",
    "here": True,
    "addresses": ["172.31.0.11", "fd00::11"],
    "networks": ["10.240.0.0/18", "10.241.0.0/22"],
    "blocks": 3,
    "given": 120,
    "silent_for": None,
    "given_up": False,
}
COLOUR = re.compile("\x1b\\[[0-9;]*m")


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize(
    ("show", "row", "numbers"),
    [("show_networks", LARGE_NETWORK, ("1852805", "1450", "12")), ("show_hosts", LARGE_HOST, ("3", "120"))],
)
def test_a_table_fits_a_terminal_with_its_numbers_whole_and_nothing_left_out(
    width: int, show: str, row: dict[str, Any], numbers: tuple[str, ...]
) -> None:
    written = io.StringIO()
    terminal = Console(file=written, width=width, force_terminal=True, color_system="standard", emoji=False)
    getattr(tables, show)(terminal, [row])
    assert COLOUR.search(written.getvalue())
    lines = COLOUR.sub("", written.getvalue()).splitlines()
    assert max(map(len, lines)) <= width
    assert set(numbers) <= set(" ".join(lines).split())
    first = "".join(line.split("  ")[0] for line in lines).removeprefix("HOST").removeprefix("NETWORK")
    assert first == row["name"]


def test_what_a_program_reads_has_no_colours_and_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(capsys, "show_networks", [LARGE_NETWORK])
    said += shown(capsys, "show_trace", {"source": "a", "to": "b", "hops": [HOP]})
    assert "\x1b" not in said
    assert len(said.splitlines()) == 2 + 3


HOP = {"hop": "route", "state": "wrong", "says": "no", "cure": "do"}
