"""Our accepts beside Docker's rules, in whichever of the two sets of tables of iptables those are."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from driver import firewall
from driver.forwarding import Forwarding
from driver.goal import LocalNetwork
from driver.kernel import old_tables
from driver.listener import COALESCE_RULES, Listener
from driver.model import Network
from driver.nft import RuleNotices
from tests.kernel.conftest import NamespaceHost, inside
from tests.lab.commands import wait_until
from tests.promises import best_of

OURS = [
    "-A DOCKER-USER -i flv+ -m comment --comment flannelpy -j ACCEPT",
    "-A DOCKER-USER -o flv+ -m comment --comment flannelpy -j ACCEPT",
]

POOLS = ip_network("10.240.0.0/18"), ip_network("fd00:240::/64")
NETWORK = Network("n", POOLS, tuple(pool[1] for pool in POOLS), "vxlan", 7, 8479, None, False, ())
PROMISE = 1.0  # seconds

LATIN1 = os.fsdecode("für".encode("latin-1"))  # which is no UTF-8


def rules(host: NamespaceHost, tool: str) -> list[str]:
    return [line for line in host.run(tool, "-S").stdout.splitlines() if line.startswith("-A DOCKER-USER")]


@pytest.mark.parametrize("kind", ["nft", "legacy"])
def test_they_go_where_docker_is_and_come_along_when_it_moves(two_hosts: tuple[NamespaceHost, ...], kind: str) -> None:
    host = two_hosts[0]
    kinds = [f"iptables-{kind}" for kind in ("nft", "legacy")]
    if not all(map(shutil.which, kinds)):
        pytest.skip("this machine has one iptables alone")
    home, other = f"iptables-{kind}", next(tool for tool in kinds if not tool.endswith(kind))
    inside(host.name, lambda: firewall.allow([4]))
    for command in ("-N DOCKER", "-N DOCKER-USER", "-A FORWARD -j DOCKER-USER", "-A DOCKER-USER -j RETURN"):
        host.run(home, *command.split())
    inside(host.name, lambda: firewall.allow([4]))
    assert rules(host, home) == [*OURS, "-A DOCKER-USER -j RETURN"]
    assert rules(host, other) == []
    inside(host.name, lambda: firewall.allow([]))
    assert rules(host, home) == ["-A DOCKER-USER -j RETURN"]
    assert "flannelpy" not in host.run(home, "-S").stdout


def test_they_stay_when_an_administrator_makes_iptables_the_other_one(
    two_hosts: tuple[NamespaceHost, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = two_hosts[0]
    tools = [shutil.which(f"iptables-{kind}") for kind in ("nft", "legacy")]
    if not all(tools):
        pytest.skip("this machine has one iptables alone")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for tool in map(str, tools):
        for part in ("", "-restore"):
            alternative = tmp_path / f"iptables{part}"
            alternative.unlink(missing_ok=True)
            alternative.symlink_to(f"{tool}{part}")
        for _ in range(3):
            inside(host.name, lambda: firewall.allow([4]))
            assert rules(host, tool) == OURS


def test_rules_of_an_earlier_version_are_exchanged(two_hosts: tuple[NamespaceHost, ...]) -> None:
    host = two_hosts[0]
    host.run("iptables", "-N", "DOCKER-USER")
    old = "-s 10.240.0.0/18 -d 10.240.0.0/18 -m comment --comment flannelpy -j ACCEPT"
    host.run("iptables", "-A", "DOCKER-USER", *old.split())
    inside(host.name, lambda: firewall.allow([4]))
    assert rules(host, "iptables") == OURS
    inside(host.name, lambda: firewall.allow([]))
    assert "DOCKER-USER" not in host.run("iptables", "-S").stdout


def test_comments_of_others_may_be_anything(two_hosts: tuple[NamespaceHost, ...]) -> None:
    host = two_hosts[0]
    for comment in (LATIN1, "it's", "of several\n\nlines", 'quoted "flannelpy"', "a\fform"):
        assert host.run("iptables", "-A", "FORWARD", "-m", "comment", "--comment", comment).returncode == 0
    inside(host.name, lambda: firewall.allow([4]))
    assert host.run("iptables", "-S", "DOCKER-USER").stdout.splitlines()[1:] == OURS


@contextmanager
def kept(host: NamespaceHost) -> Iterator[None]:
    """As flannelpy does, which looks again only when something has changed."""
    forwarding, networks = Forwarding(), [LocalNetwork(NETWORK, (), ())]

    def look() -> None:
        if forwarding.disturbed():
            assert forwarding.settle(None, networks, look=True) == []

    def start() -> Listener:
        assert forwarding.settle(None, networks, look=True) == []
        listener = Listener(look, RuleNotices, COALESCE_RULES)
        listener.start()
        return listener

    listener = inside(host.name, start)
    try:
        yield
    finally:
        listener.stop()
        wait_until("its end", lambda: not listener.runs, timeout=5)


@pytest.mark.alone
@pytest.mark.parametrize(
    ("tool", "harm"), [("iptables-legacy", "-D DOCKER-USER 1"), ("iptables-legacy", "-F"), ("ip6tables-legacy", "-F")]
)
def test_rules_in_the_old_tables_are_put_back_within_a_second(
    two_hosts: tuple[NamespaceHost, ...], tool: str, harm: str
) -> None:
    host = two_hosts[0]
    if not shutil.which(tool):
        pytest.skip(f"no {tool} here")
    host.run(tool, "-N", "DOCKER")
    with kept(host):
        before = host.run(tool, "-S").stdout
        assert before.count("flannelpy") == 4

        def took() -> float:
            host.run(tool, *harm.split())
            began = time.monotonic()
            wait_until("the rules", lambda: host.run(tool, "-S").stdout == before, timeout=5)
            return time.monotonic() - began

        best_of(took, PROMISE)


def test_asking_for_the_old_tables_makes_none(two_hosts: tuple[NamespaceHost, ...]) -> None:
    def asked() -> tuple[dict[int, bytes], list[str]]:
        return old_tables.sizes(), [Path(names).read_text() for names in old_tables.NAMES.values()]

    host = two_hosts[0]
    if not shutil.which("iptables-legacy"):
        pytest.skip("no iptables-legacy here")
    assert inside(host.name, asked) == ({}, ["", ""])
    host.run("iptables-legacy", "-N", "SOMEBODYS")
    seen, names = inside(host.name, asked)
    assert list(seen) == [4]
    assert names == ["filter\n", ""]
    host.run("iptables-legacy", "-A", "SOMEBODYS", "-j", "ACCEPT")
    assert inside(host.name, old_tables.sizes) != seen


def test_an_old_table_is_seen_when_somebody_makes_it(two_hosts: tuple[NamespaceHost, ...]) -> None:
    host = two_hosts[0]
    if not shutil.which("iptables-legacy"):
        pytest.skip("no iptables-legacy here")

    def listen() -> tuple[RuleNotices, list[bool]]:
        notices = RuleNotices()
        host.run("iptables-legacy", "-N", "DOCKER")
        return notices, [notices.wait(), notices.wait()]

    notices, told = inside(host.name, listen)
    assert told == [True, False]
    notices.close()
