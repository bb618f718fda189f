"""In which order this host's rules and the ways to its peers change; the rules themselves are only noted here."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from driver import firewall, nft, sysctl
from driver.backends.interface import Remote, Underlay
from driver.errors import KernelError
from driver.filter import Sets
from driver.forwarding import Forwarding
from driver.goal import LocalNetwork
from driver.kernel import old_tables
from driver.model import Network

POOL = ip_network("10.240.0.0/18")
NET = Network("n", (POOL,), (POOL[1],), "vxlan", 7, 8479, None, False, ())
ONE, TWO = (Remote(f"h{n}", (ip_address(f"192.0.2.{n}"),), ()) for n in (1, 2))
UNDERLAY = Underlay("eth0", 1500, ONE.addresses, ONE.addresses, ())


class Rules:
    """What nftables was told, and how often the rules beside Docker's were looked at."""

    def __init__(self) -> None:
        self.put: list[Sets] = []
        self.generation = self.allowed = 0
        self.old: dict[int, bytes] = {}
        self.fails = False

    def settle(self, wanted: Sets) -> bool:
        if self.fails:
            raise KernelError("no memory")
        changed = not self.put or self.put[-1] != wanted
        if changed:
            self.put.append(wanted)
            self.generation += 1
        return changed

    def peers(self) -> list[set[str]]:
        return [{element.split()[-1] for element in sets.get("peers4", ())} for sets in self.put]


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Rules:
    made = Rules()
    monkeypatch.setattr(nft, "Nft", lambda: made)
    monkeypatch.setattr(nft, "read_generation", lambda: made.generation)
    monkeypatch.setattr(old_tables, "sizes", lambda: made.old)
    monkeypatch.setattr(firewall, "allow", lambda _: setattr(made, "allowed", made.allowed + 1))
    monkeypatch.setattr(sysctl, "forwards", lambda _: True)
    monkeypatch.setattr(sysctl, "ensure_forwarding", lambda *_: None)
    return made


def networks(*remotes: Remote, port: int = 8479) -> list[LocalNetwork]:
    return [LocalNetwork(replace(NET, port=port), (), remotes)]


def test_who_comes_is_let_in_first_and_who_goes_is_shut_out_last(rules: Rules) -> None:
    forwarding = Forwarding()
    for wanted in (networks(ONE), networks(TWO)):
        forwarding.admit(UNDERLAY, wanted)
        assert forwarding.settle(UNDERLAY, wanted, look=False) == []
    assert rules.peers() == [{"192.0.2.1"}, {"192.0.2.1", "192.0.2.2"}, {"192.0.2.2"}]
    assert rules.allowed == 1


def test_all_else_waits_for_the_ways(rules: Rules) -> None:
    forwarding = Forwarding()
    forwarding.settle(UNDERLAY, networks(ONE), look=False)
    forwarding.admit(UNDERLAY, networks(ONE, port=8500))
    assert rules.put[-1]["tunnels"] == {"8479"}
    forwarding.settle(UNDERLAY, networks(ONE, port=8500), look=False)
    assert rules.put[-1]["tunnels"] == {"8500"}


def test_the_last_network_goes_after_its_ways(rules: Rules) -> None:
    forwarding = Forwarding()
    forwarding.settle(UNDERLAY, networks(ONE), look=False)
    forwarding.admit(UNDERLAY, [])
    assert rules.put[-1]
    forwarding.settle(UNDERLAY, [], look=False)
    assert rules.put[-1] == {}


def test_rules_that_others_changed_meanwhile_are_looked_at(rules: Rules) -> None:
    forwarding = Forwarding()
    forwarding.settle(UNDERLAY, networks(ONE), look=False)
    rules.generation += 1
    forwarding.admit(UNDERLAY, networks(ONE, TWO))
    forwarding.settle(UNDERLAY, networks(ONE, TWO), look=False)
    assert rules.allowed == 2


def test_old_tables_that_others_changed_are_looked_at_until_nothing_changes_meanwhile(rules: Rules) -> None:
    forwarding = Forwarding()
    for table in (b"made", b"changed"):
        rules.old = {4: table}
        assert forwarding.disturbed()
        forwarding.settle(UNDERLAY, networks(ONE), look=True)
        assert not forwarding.disturbed()


def test_what_failed_is_tried_again_and_told(rules: Rules) -> None:
    forwarding = Forwarding()
    forwarding.settle(UNDERLAY, networks(ONE), look=False)
    rules.fails = True
    forwarding.admit(UNDERLAY, networks(ONE, TWO))
    assert forwarding.settle(UNDERLAY, networks(ONE, TWO), look=False) == ["fl.7: no memory"]
    rules.fails = False
    assert forwarding.settle(UNDERLAY, networks(ONE, TWO), look=False) == []
    assert rules.peers()[-1] == {"192.0.2.1", "192.0.2.2"}
