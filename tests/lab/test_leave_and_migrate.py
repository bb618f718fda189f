"""A host that goes for good, and one that moves from its own store to a Consul."""

import base64
from collections.abc import Iterator

import pytest

from tests.lab.cluster import FLANNELPY, Cluster, Container, PingStream, records_of
from tests.lab.commands import CommandFailed, wait_until
from tests.lab.lab import Lab

TTL = "60s"  # so that a living host beats every 5 s
POOL = "10.240.0.0/18"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Lab(hosts=2) as lab:
        cluster = Cluster(lab)
        for host in lab.hosts:
            host.start_flannelpy({"FLANNELPY_STORE": lab.consul.url, "FLANNELPY_LEASE_TTL": TTL})
        yield cluster


def keys_naming(cluster: Cluster, host: str) -> list[str]:
    entries = cluster.consul.api("GET", "/v1/kv/flannelpy/?recurse")
    now = [entry for entry in entries if "/feed/" not in entry["Key"]]  # the feed is what was
    return [entry["Key"] for entry in now if host in entry["Key"] or host in decoded(entry["Value"])]


def decoded(value: str | None) -> str:
    return base64.b64decode(value or "").decode(errors="replace")


@pytest.mark.timeout(240)
def test_a_host_leaves_while_it_runs_when_it_is_stopped_and_when_it_is_gone(cluster: Cluster) -> None:
    one, other = cluster.hosts
    cluster.create("web", "--subnet", POOL)
    cluster.run_everywhere(1, "web")
    with pytest.raises(CommandFailed, match=r"this host still has networks in 10\.240\.0\.0/18: .*then remove them"):
        other.flannelpy_command("leave")

    other.remove_containers()
    other.docker("network", "rm", "web")
    assert other.flannelpy_command("leave") == f"host {other.name} holds nothing any more"
    assert keys_naming(cluster, other.name) == []

    other.docker("network", "create", *FLANNELPY, "--subnet", POOL, "web")
    assert keys_naming(cluster, other.name)
    other.docker("network", "rm", "web")
    other.stop_flannelpy()
    assert other.flannelpy_command("leave") == f"host {other.name} holds nothing any more"
    assert keys_naming(cluster, other.name) == []

    other.start_flannelpy(other.flannelpy_env)
    other.docker("network", "create", *FLANNELPY, "--subnet", POOL, "web")
    with pytest.raises(CommandFailed, match=f"host {other.name} has just given a sign of life; stop it first"):
        one.flannelpy_command("leave", "--host", other.name)
    other.die()
    assert one.flannelpy_command("leave", "--host", other.name) == f"host {other.name} holds nothing any more"
    assert keys_naming(cluster, other.name) == []
    with pytest.raises(CommandFailed, match=f"the cluster knows no host {other.name}"):
        one.flannelpy_command("leave", "--host", other.name)


@pytest.mark.timeout(240)
def test_a_hosts_networks_move_to_consul_with_their_containers(cluster: Cluster) -> None:
    one, other = cluster.hosts
    one.stop_flannelpy()
    one.start_flannelpy({})  # its own store
    one.docker("network", "create", *FLANNELPY, "--subnet", POOL, "web")
    old = [cluster.run(one, name, "web") for name in ("first", "second")]
    before = records_of(one)
    with PingStream(old[0], old[1].address) as stream:
        one.stop_flannelpy()
        said = one.flannelpy_command("migrate", cluster.consul.url)
        assert said.endswith(f"keys moved; start flannelpy with FLANNELPY_STORE={cluster.consul.url}")
        one.start_flannelpy({"FLANNELPY_STORE": cluster.consul.url})
        stream.await_more(50)
    assert stream.lost() == []
    assert before <= records_of(one)
    other.docker("network", "create", *FLANNELPY, "--subnet", POOL, "web")
    new = [cluster.run(host, "new", "web") for host in cluster.hosts]
    everybody: list[Container] = [*old, *new]
    assert len({container.address for container in everybody}) == 4
    wait_until("everybody to be reached", lambda: not cluster.unreached(everybody), timeout=20)
