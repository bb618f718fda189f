"""What Docker's rules must let pass: the only file that speaks iptables.

Docker sets the FORWARD policy to DROP, so packets of our containers need a rule of ours in DOCKER-USER, the chain that
Docker leaves to others and asks first. Accepting is all that is done here, and by interface alone; who may talk to
whom is for our own table (driver/filter.py), whose drops count whatever is accepted here.

Whenever a network is created, dockerd takes DOCKER-USER out of FORWARD and puts it in again, and a packet in between
is lost to the policy: a second rule, at the end of FORWARD, catches it. Each of our rules carries our comment; no
other rule is ever touched.

iptables speaks to one of two sets of tables, its old ones or nftables. Ours belong beside Docker's. An Engine that
writes nftables itself has no DOCKER-USER and drops nothing that neither comes from nor goes to a bridge of its own."""

import logging
import os
import shlex
import shutil
from collections.abc import Collection, Mapping
from functools import cache

from driver.command import Done, call
from driver.errors import KernelError
from driver.kernel import old_tables

log = logging.getLogger(__name__)

USER, FORWARD, COMMENT = "DOCKER-USER", "FORWARD", "flannelpy"
DOCKERS = "DOCKER"  # a chain that is there wherever an Engine keeps its rules
TOOLS = {4: "iptables", 6: "ip6tables"}
TIMEOUT = 10.0
Rule = list[str]

# As `iptables -S` words them. Whatever is forwarded for a container comes from or goes to its link.
ACCEPTS: list[Rule] = [[way, "flv+", "-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"] for way in ("-i", "-o")]


def allow(versions: Collection[int]) -> None:
    """Have packets of our containers accepted for these IP versions, and leave no rule of ours for the others."""
    for version in TOOLS:
        present = {tool: _our_rules(tool) for tool in _tools_in_use(version)}
        home = choose(present)
        for tool, rules in present.items():
            _settle(tool, rules, ACCEPTS if version in versions and tool == home else [])


def close(version: int) -> None:
    """Forward nothing but what a rule accepts. Whoever turns forwarding on has to see to that: dockerd does so, but not
    when it finds forwarding already on, as after the start of a host where we came first."""
    home = choose({tool: _our_rules(tool) for tool in _tools_in_use(version)})
    if home is None:
        raise KernelError(f"the command {TOOLS[version]} is missing; install the package iptables")
    _run(home, "-P", FORWARD, "DROP")
    log.warning("forwarding is turned on here, for our pools alone", extra={"version": version})


def _tools_in_use(version: int) -> list[str]:
    """The iptables commands whose tables may hold rules, the host's default first. None where the host has none: then
    no Engine has rules there either. The old tables are not asked where there are none: asking makes them."""
    default = TOOLS[version]
    path = shutil.which(default)
    if path is None:
        return []
    is_old = _is_old(default, os.path.realpath(path))
    other = f"{default}-{'nft' if is_old else 'legacy'}"
    wanted = shutil.which(other) is not None and (is_old or old_tables.has_filter(version))
    return [default, *([other] if wanted else [])]


@cache
def _is_old(tool: str, program: str) -> bool:
    """`program` is what the tool is now: an administrator can make it the other one (update-alternatives)."""
    return "legacy" in _call(tool, "--version").stdout


def choose(present: Mapping[str, Mapping[str, list[Rule]]]) -> str | None:
    """The tool with Docker's rules, else the first."""
    return next((tool for tool, chains in present.items() if DOCKERS in chains), next(iter(present), None))


def _settle(tool: str, present: Mapping[str, list[Rule]], wanted: list[Rule]) -> None:
    if wanted and USER not in present:
        # Docker keeps a chain that is already there, so the rules stand before its first container starts.
        _run(tool, "-N", USER)
    if any(present.get(chain, []) != wanted for chain in (USER, FORWARD)):
        _exchange(tool, present, wanted)
        log.info("accepts beside Docker's rules changed", extra={"tool": tool, "rules": len(wanted)})
    if present.get(USER) and not wanted:
        # The chain too, where it was our doing: not Docker's, which has a rule in it or is in use.
        _call(tool, "-X", USER)


def _exchange(tool: str, old: Mapping[str, list[Rule]], wanted: list[Rule]) -> None:
    """One transaction: there is no moment without rules."""
    lines = [f"-D {chain} {shlex.join(rule)}" for chain in (USER, FORWARD) for rule in old.get(chain, [])]
    lines += [f"-I {USER} {place} {shlex.join(rule)}" for place, rule in enumerate(wanted, start=1)]
    lines += [f"-A {FORWARD} {shlex.join(rule)}" for rule in wanted]
    _run(f"{tool}-restore", "--noflush", stdin="\n".join(["*filter", *lines, "COMMIT", ""]))


def _our_rules(tool: str) -> dict[str, list[Rule]]:
    """Our rules by chain, without the words that name it; every chain of the table is there."""
    found: dict[str, list[Rule]] = {}
    for line in _run(tool, "-S").split("\n"):
        match _words(line):
            case ["-P" | "-N", chain, *_]:
                found.setdefault(chain, [])
            case ["-A", chain, *rule]:
                found.setdefault(chain, []).extend([rule] if COMMENT in rule else [])
    return found


def _words(line: str) -> Rule:
    """None of what is no whole rule: the comment of somebody's may be of several lines."""
    try:
        return shlex.split(line)
    except ValueError:
        return []


def _run(tool: str, *arguments: str, stdin: str = "") -> str:
    done = _call(tool, "-w", "5", *arguments, stdin=stdin)
    if done.returncode != 0:
        raise KernelError(f"{tool} {shlex.join(arguments)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _call(*command: str, stdin: str = "") -> Done:
    return call(command, package="iptables", timeout=TIMEOUT, stdin=stdin)
