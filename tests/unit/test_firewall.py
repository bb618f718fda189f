"""Which of a host's two iptables is Docker's."""

from driver.firewall import ACCEPTS, Rule, choose

DOCKERS: dict[str, list[Rule]] = {"DOCKER": [], "FORWARD": []}
EMPTY: dict[str, list[Rule]] = {"FORWARD": []}


def test_ours_go_where_dockers_rules_are() -> None:
    assert choose({"iptables": EMPTY, "iptables-legacy": DOCKERS}) == "iptables-legacy"
    assert choose({"iptables": DOCKERS, "iptables-nft": DOCKERS}) == "iptables"


def test_before_docker_has_any_they_go_where_it_will_put_them() -> None:
    assert choose({"iptables": {"DOCKER-USER": ACCEPTS}, "iptables-legacy": {}}) == "iptables"


def test_a_host_without_iptables_has_none() -> None:
    assert choose({}) is None
