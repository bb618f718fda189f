"""Containers as services in a real Consul: told, told anew, taken back, and only with the right to do so."""

import re
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_address

import dns.message
import dns.query
import pytest

from cluster.endpoints import Attachment
from cluster.services import LABEL, Services, node_of, services_of
from ipam.tenancy import NameTaken
from plugin.naming import forget_services
from store import records
from store.catalog import Service
from store.consul import ConsulStore
from store.interface import StoreForbidden
from tests.consul_agent import ConsulAgent

HERE = ip_address("192.0.2.11")
RIGHTS = """
node_prefix "flannelpy-" { policy = "write" }
service "shop" { policy = "write" }
"""


def attachment(
    label: str | None, *more: str, container: str = "c1", network: str = "web", address: str = "10.240.0.5"
) -> Attachment:
    """`more`: addresses."""
    addresses = tuple(map(ip_address, (address, *more)))
    record = records.Endpoint(container, container, (container,), network, addresses, "", "nginx")
    return Attachment(f"key-{network}-{container}", record, {LABEL: label} if label is not None else {})


@pytest.mark.consul
def test_services_follow_the_labels(acl_agent: ConsulAgent, root: str) -> None:
    node, attachments = node_of(root, "h1"), [attachment("shop:80"), attachment(None, container="c2")]
    with closing(ConsulStore(acl_agent.url, root, token=acl_agent.token(RIGHTS))) as consul:

        def told() -> dict[str, Service]:
            # anew each time, as after a crash
            Services(consul, node, lambda: HERE, lambda: attachments, lambda: None).tell()
            return consul.services(node)

        assert consul.services(node) == {}
        shop = Service("shop", (ip_address("10.240.0.5"),), 80)
        assert told() == {"flannelpy-c1": shop}
        attachments[0] = attachment("shop:81", address="10.240.0.6")
        assert told() == {"flannelpy-c1": Service("shop", (ip_address("10.240.0.6"),), 81)}
        attachments[0] = attachment(None)
        assert told() == {}
        attachments[0] = attachment("shop:80")
        same = Services(consul, node, lambda: HERE, lambda: attachments, lambda: None)
        same.tell()
        consul.deregister(node)  # as a host does that gives this one up
        consul.deregister(node)
        assert consul.services(node) == {}


@pytest.mark.consul
def test_without_the_right_the_sentence_names_it(acl_agent: ConsulAgent, root: str) -> None:
    with (
        closing(ConsulStore(acl_agent.url, root, token=acl_agent.token(""))) as consul,
        pytest.raises(StoreForbidden, match=r'node_prefix "flannelpy-" \{ policy = "write" \} and service "NAME"'),
    ):
        consul.register("flannelpy-h1", HERE, "1", Service("shop", (HERE,), 0))


@pytest.mark.consul
def test_a_service_of_both_families_is_found_by_either(open_agent: ConsulAgent, root: str) -> None:
    node, name = node_of(root, "h1"), f"s-{root}"
    attachments = [attachment(name, "fd77::5")]
    with closing(ConsulStore(open_agent.url, root)) as consul:
        for _ in range(2):
            services = Services(consul, node, lambda: HERE, lambda: attachments, lambda: None)
            services.tell()
            assert [len(service.addresses) for service in consul.services(node).values()] == [2]
        assert [looked_up(open_agent, name, kind) for kind in ("A", "AAAA")] == [["10.240.0.5"], ["fd77::5"]]
        consul.deregister(node)


@pytest.mark.consul
def test_what_a_lost_host_registered_is_taken_away_by_another(acl_agent: ConsulAgent, root: str) -> None:
    with closing(ConsulStore(acl_agent.url, root, token=acl_agent.token(RIGHTS))) as consul:
        for host in ("h1", "h2"):
            Services(consul, node_of(root, host), lambda: HERE, lambda: [attachment("shop")], lambda: None).tell()
        forget_services(consul, root, "h1")
        assert [len(consul.services(node_of(root, host))) for host in ("h1", "h2")] == [0, 1]
        with closing(ConsulStore(acl_agent.url, root, token=acl_agent.token(""))) as powerless:
            forget_services(powerless, root, "h2")  # a token that could have registered none
        assert len(consul.services(node_of(root, "h2"))) == 1
        consul.deregister(node_of(root, "h2"))


@pytest.mark.consul
def test_a_machine_that_is_refused_a_hosts_name_takes_none_of_its_services_away(
    acl_agent: ConsulAgent, root: str
) -> None:
    node = node_of(root, "h1")

    def refused() -> None:
        raise NameTaken("another machine is host h1")

    with closing(ConsulStore(acl_agent.url, root, token=acl_agent.token(RIGHTS))) as consul:
        Services(consul, node, lambda: HERE, lambda: [attachment("shop")], lambda: None).tell()
        with pytest.raises(NameTaken):
            Services(consul, node, lambda: HERE, list, refused).tell()
        assert [*consul.services(node)] == ["flannelpy-c1"]
        consul.deregister(node)


def looked_up(agent: ConsulAgent, name: str, kind: str) -> list[str]:
    question = dns.message.make_query(f"{name}.service.consul", kind)
    answer = dns.query.udp(question, "127.0.0.1", port=agent.ports["dns"], timeout=5)
    return [str(record) for record_set in answer.answer for record in record_set]


@pytest.mark.consul
def test_a_name_that_the_token_may_not_write_hinders_no_other(
    acl_agent: ConsulAgent, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    node = node_of(root, "h1")
    attachments = [attachment("forbidden"), attachment("shop", container="c2")]
    with closing(ConsulStore(acl_agent.url, root, token=acl_agent.token(RIGHTS))) as consul:
        services = Services(consul, node, lambda: HERE, lambda: attachments, lambda: None)
        for _ in range(3):
            services.tell()
        assert [service.name for service in consul.services(node).values()] == ["shop"]
        told = [record for record in caplog.records if getattr(record, "service", None) == "forbidden"]
        assert len(told) == 1
        assert 'service "NAME" { policy = "write" }' in str(vars(told[0])["why"])
        attachments[:] = []
        services.tell()
        assert consul.services(node) == {}


@pytest.mark.parametrize(
    ("label", "service"),
    [
        ("shop", ("shop", 0)),
        ("shop-2:8080", ("shop-2", 8080)),
        ("", None),
        ("shop_2", None),
        ("-shop", None),
        ("shop:", None),
        ("shop:65536", None),
        ("shop:80:80", None),
        ("s" * 64, None),
    ],
)
def test_what_a_label_may_say(label: str, service: tuple[str, int] | None) -> None:
    wanted, wrong = services_of([attachment(label)])
    assert [(one.name, one.port) for one in wanted.values()] == ([service] if service else [])
    assert wrong == ({} if service else {"c1": label})


def test_a_container_in_two_networks_is_one_service() -> None:
    both = [attachment("shop", network="web", address="10.241.0.5"), attachment("shop", network="db")]
    assert services_of(both)[0] == {"flannelpy-c1": Service("shop", (ip_address("10.240.0.5"),), 0)}
    assert services_of([replace(one, labels={}) for one in both]) == ({}, {})


def test_a_node_is_a_word_of_dns_and_has_no_suffix_where_none_is_needed() -> None:
    assert node_of("flannelpy", "host-1") == "flannelpy-flannelpy-host-1"
    assert re.fullmatch("flannelpy-prod-eu-host-1-example-[0-9a-f]{8}", node_of("prod/eu", "Host_1.example"))


@pytest.mark.consul
def test_hosts_whose_names_are_alike_take_no_service_of_each_other_away(open_agent: ConsulAgent) -> None:
    hosts = [("a", name) for name in ("b-c", "b.c", "b_c", "B-C", "b--c")] + [("a-b", "c"), ("a/b", "c")]
    nodes = [node_of(*host) for host in hosts]
    assert len({node.lower() for node in nodes}) == len(hosts)
    with closing(ConsulStore(open_agent.url, "a")) as consul:
        for number, node in enumerate(nodes):
            mine = [attachment("shop", container=f"c{number}")]
            Services(consul, node, lambda: HERE, lambda mine=mine: mine, lambda: None).tell()  # type: ignore[misc]
        assert [[*consul.services(node)] for node in nodes] == [[f"flannelpy-c{n}"] for n in range(len(nodes))]
        assert consul.services(nodes[0].upper()) == consul.services(nodes[0])  # so capital letters tell nobody apart
        for node in nodes:
            consul.deregister(node)
