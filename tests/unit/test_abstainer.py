"""A host that takes no part in what the others make: it does nothing, and says what it lacks and how to have it."""

import logging
import shlex
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from cluster.abstainer import Abstainer
from cluster.participation import Participation
from cluster.spread import Had, State, command
from store.codec import encode
from store.interface import Entry
from store.ip import IPNetwork
from store.memory import MemoryStore
from store.records import DockerNetwork, NetworkShape

POOL, POOL6, OTHER = ip_network("10.240.0.0/18"), ip_network("fd77::/64"), ip_network("10.241.0.0/18")
PLAIN = NetworkShape("web", "flannelpy", "flannelpy", (POOL,), (), (), (), (), (), (), False, False, False)
FULL = NetworkShape(
    name="my web",
    driver="flannelpy",
    ipam_driver="flannelpy",
    pools=(POOL, POOL6),
    ranges=(ip_network("10.240.16.0/20"),),
    gateways=(ip_address("10.240.0.9"), ip_address("fd77::9")),
    reserved=(("router", "10.240.0.7"),),
    options=(("backend", "host-gw"), ("mtu", "1400")),
    ipam_options=(("block", "24"),),
    labels=(("team", "a b"),),
    internal=True,
    attachable=False,
    ipv6=True,
)


def record(shape: NetworkShape, *, removed: bool = False) -> DockerNetwork:
    fields = {name: getattr(shape, name) for name in NetworkShape.__dataclass_fields__}
    return DockerNetwork(**fields, token="t", host="h2", removed=removed)


def abstainer(*told: DockerNetwork, here: tuple[IPNetwork, ...] = ()) -> Abstainer:
    entries = {str(number): Entry(encode(one), 1) for number, one in enumerate(told)}
    entries["bad"] = Entry(b"not a record", 1)
    return Abstainer(Participation(MemoryStore()), lambda: entries, lambda: here)


def test_it_tells_what_the_cluster_has_and_this_host_has_not_with_the_command_that_makes_it() -> None:
    others = (record(replace(PLAIN, name="db", pools=(OTHER,))), record(replace(PLAIN, name="gone"), removed=True))
    outcomes = abstainer(record(PLAIN), *others, here=(OTHER,)).outcomes()
    assert set(outcomes) == {"web"}
    assert outcomes["web"].state is State.ABSENT
    assert outcomes["web"].why == (
        "made on host h2, and FLANNELPY_PROPAGATE is false on this one; type: docker network create -d flannelpy "
        "--ipam-driver flannelpy --subnet 10.240.0.0/18 web"
    )


def test_where_another_network_has_the_name_the_command_is_one_that_works() -> None:
    entries = {"web": Entry(encode(record(PLAIN)), 1)}
    one = Abstainer(Participation(MemoryStore()), lambda: entries, lambda: {OTHER}, lambda: {"web", "bridge"})
    assert one.outcomes()["web"].why == (
        "made on host h2, and FLANNELPY_PROPAGATE is false on this one; another network has that name here, so give it "
        "one of its own: docker network create -d flannelpy --ipam-driver flannelpy --subnet 10.240.0.0/18 NAME"
    )


def test_before_the_store_has_answered_it_tells_nothing() -> None:
    assert Abstainer(Participation(MemoryStore()), lambda: None, tuple).outcomes() == {}


def test_a_network_that_comes_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    one = abstainer()
    with caplog.at_level(logging.INFO):
        one.heard({"web": Entry(encode(record(PLAIN)), 1), "db": None})
    [logged] = caplog.records
    assert (logged.message, vars(logged)["network"]) == ("network of the cluster not made here", "web")


def test_what_it_had_of_the_cluster_is_forgotten() -> None:
    had = Participation(MemoryStore())
    had.put(Had("web", "t", "n1"))
    Abstainer(had, dict, list).start()
    assert list(had) == []


def test_the_command_makes_the_same_network_and_a_shell_reads_it_so() -> None:
    assert shlex.split(command(FULL)) == [
        *("docker", "network", "create", "-d", "flannelpy", "--ipam-driver", "flannelpy", "--internal", "--ipv6"),
        *("--subnet", "10.240.0.0/18", "--subnet", "fd77::/64", "--ip-range", "10.240.16.0/20"),
        *("--gateway", "10.240.0.9", "--gateway", "fd77::9", "--aux-address", "router=10.240.0.7"),
        *("--ipam-opt", "block=24", "-o", "backend=host-gw", "-o", "mtu=1400", "--label", "team=a b", "my web"),
    ]
    six = replace(PLAIN, pools=(POOL6,), ipv6=True, ipv4=False)
    assert command(six).endswith("--ipam-driver flannelpy --ipv6 --ipv4=false --subnet fd77::/64 web")
