"""Our accepts beside Docker's rules, in whichever of the two sets of tables of iptables those are."""

import os
import shutil

import pytest

from driver import firewall
from tests.kernel.conftest import NamespaceHost, inside

OURS = [
    "-A DOCKER-USER -i flv+ -m comment --comment flannelpy -j ACCEPT",
    "-A DOCKER-USER -o flv+ -m comment --comment flannelpy -j ACCEPT",
]

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


def test_rules_of_an_earlier_version_are_exchanged(two_hosts: tuple[NamespaceHost, ...]) -> None:
    host = two_hosts[0]
    host.run("iptables", "-N", "DOCKER-USER")
    old = "-s 10.240.0.0/18 -d 10.240.0.0/18 -m comment --comment flannelpy -j ACCEPT"
    host.run("iptables", "-A", "DOCKER-USER", *old.split())
    inside(host.name, lambda: firewall.allow([4]))
    assert rules(host, "iptables") == OURS
    inside(host.name, lambda: firewall.allow([]))
    assert "DOCKER-USER" not in host.run("iptables", "-S").stdout


def test_comments_of_others_need_be_no_text(two_hosts: tuple[NamespaceHost, ...]) -> None:
    host = two_hosts[0]
    assert host.run("iptables", "-A", "FORWARD", "-m", "comment", "--comment", LATIN1).returncode == 0
    inside(host.name, lambda: firewall.allow([4]))
    assert host.run("iptables", "-S", "DOCKER-USER").stdout.splitlines()[1:] == OURS
