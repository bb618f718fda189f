"""Containers as services in a real Consul: told, told anew, taken back, and only with the right to do so."""

from contextlib import closing
from dataclasses import replace
from ipaddress import ip_address

import pytest

from cluster.endpoints import Attachment
from cluster.services import LABEL, Services, node_of, services_of
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
    label: str | None, *, container: str = "c1", network: str = "web", address: str = "10.240.0.5"
) -> Attachment:
    record = records.Endpoint(container, container, (container,), network, (ip_address(address),), "", "nginx")
    return Attachment(f"key-{network}-{container}", record, {LABEL: label} if label is not None else {})


@pytest.mark.consul
def test_services_follow_the_labels(acl_agent: ConsulAgent, root: str) -> None:
    node, attachments = node_of(root, "h1"), [attachment("shop:80"), attachment(None, container="c2")]
    with closing(ConsulStore(acl_agent.url, root, token=acl_agent.token(RIGHTS))) as consul:

        def told() -> dict[str, Service]:
            Services(consul, node, lambda: HERE, lambda: attachments).tell()  # anew each time, as after a crash
            return consul.services(node)

        assert consul.services(node) == {}
        shop = Service("shop", ip_address("10.240.0.5"), 80)
        assert told() == {"flannelpy-c1": shop}
        attachments[0] = attachment("shop:81", address="10.240.0.6")
        assert told() == {"flannelpy-c1": Service("shop", ip_address("10.240.0.6"), 81)}
        attachments[0] = attachment(None)
        assert told() == {}
        attachments[0] = attachment("shop:80")
        same = Services(consul, node, lambda: HERE, lambda: attachments)
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
        consul.register("flannelpy-h1", HERE, "1", Service("shop", HERE, 0))


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
    assert services_of(both)[0] == {"flannelpy-c1": Service("shop", ip_address("10.240.0.5"), 0)}
    assert services_of([replace(one, labels={}) for one in both]) == ({}, {})


def test_a_node_is_a_word_of_dns() -> None:
    assert node_of("prod/eu", "host_1.example") == "flannelpy-prod-eu-host-1-example"
