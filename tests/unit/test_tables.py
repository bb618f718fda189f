"""The tables show what others chose, letter by letter, whatever rich would make of it."""

from typing import Any

import pytest

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
