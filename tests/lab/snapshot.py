"""What a host's kernel holds, as lines of text that are equal when nothing a driver does has changed."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

Snapshot = dict[str, set[str]]
Run = Callable[..., str]

# What changes by itself: whether a bridge has a port, an address's remaining lifetime, counters.
FLEETING = re.compile(r" (linkdown|dead|tentative|dadfailed|(expires|valid_lft|preferred_lft) \w+)\b")
FIREWALL_TABLES = {"filter", "nat", "mangle", "raw", "security"}  # iptables' own, which its save commands show


def take_snapshot(run: Run) -> Snapshot:
    """`run` runs a command on the host."""
    return {
        "links": set(links(run)),
        "addresses": lines(run("ip", "-o", "addr", "show", "scope", "global"), without=r"^\d+: | scope .*"),
        "routes": {
            line
            for version in ("-4", "-6")
            for line in lines(run("ip", version, "-o", "route", "show", "table", "all"))
            if not re.match(r"local|broadcast|anycast|multicast", line) and "fe80::/64" not in line
        },
        "rules": {f"{v} {line}" for v in ("-4", "-6") for line in lines(run("ip", v, "rule"))},
        "neighbours": lines(run("ip", "neigh", "show", "nud", "permanent"))
        | lines(run("ip", "neigh", "show", "proxy")),
        "fdb": set(fdb(run)),
        "firewall": {*firewall(run, "iptables-save"), *firewall(run, "ip6tables-save")},
        "nftables": set(nftables(run)),
    }


def differences(before: Snapshot, after: Snapshot) -> str:
    """Empty when they are equal, else one line each for what is gone (-) and what is new (+)."""
    return "\n".join(
        f"{kind}: {sign} {line}"
        for kind in before
        for sign, some in (("-", before[kind] - after[kind]), ("+", after[kind] - before[kind]))
        for line in sorted(some)
    )


def lines(text: str, *, without: str = "") -> set[str]:
    found = {FLEETING.sub("", re.sub(without, "", line) if without else line) for line in text.splitlines()}
    return {" ".join(line.replace("\\", " ").split()) for line in found if line.strip()}


def links(run: Run) -> Iterator[str]:
    """Name, kind, MTU, master, and what the link was made with; not its number nor whether anything is plugged in."""
    for link in json.loads(run("ip", "-d", "-j", "link", "show") or "[]"):
        info: dict[str, Any] = link.get("linkinfo", {})
        data = info.get("info_data", {}) if info.get("info_kind") not in ("bridge", "veth") else {}
        made = " ".join(f"{key} {value}" for key, value in sorted(data.items()))
        master = f" master {link['master']}" if "master" in link else ""
        yield f"{link['ifname']} {info.get('info_kind', 'plain')} mtu {link['mtu']}{master} {made}".strip()


def fdb(run: Run) -> Iterator[str]:
    """Not what a bridge learned, nor the multicast groups that come and go with its ports."""
    for line in lines(run("bridge", "fdb", "show")):
        if not line.startswith(("33:33:", "01:00:5e:", "01:80:c2:")) and re.search("permanent|static|dst|extern", line):
            yield line


def firewall(run: Run, save: str) -> Iterator[str]:
    """Every rule with its table and IP version, since the same words may stand in several.

    A built-in chain that accepts is left out: it appears with the first question about its table."""
    version, table = ("6" if save.startswith("ip6") else "4"), ""
    for line in run(save).splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith((":", "-")) and not re.match(r":[A-Z]+ ACCEPT ", line):
            uncounted = re.sub(r"\[\d+:\d+\]", "", line).strip()
            yield f"{version} {table} {uncounted}"


def nftables(run: Run) -> Iterator[str]:
    """The tables that are not iptables' own."""
    for entry in json.loads(run("nft", "-j", "list", "tables"))["nftables"]:
        table = entry.get("table")
        if table is None or (table["family"] in ("ip", "ip6") and table["name"] in FIREWALL_TABLES):
            continue
        for line in lines(run("nft", "-s", "list", "table", table["family"], table["name"])):
            yield f"{table['family']} {table['name']}: {line}"
