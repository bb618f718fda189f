"""What the operator's commands show of a cluster that works, and of one whose store is away."""

import json
import re
import sys
import time
from typing import Any

import pytest

from tests.lab.cluster import POOL, Cluster
from tests.lab.commands import CommandFailed, wait_until
from tests.lab.docker_host import DockerHost
from tests.memory import cpu_seconds, family, held_by

QUICK = 0.3  # seconds for `flannelpy status`, once the machine has nothing else to do; on a slow one ...
STARTS = 10  # ... so many times what an empty program of Python takes
MOST_MEMORY = 100e6  # bytes, of all processes of a host's flannelpy
IDLE, WINDOW = 0.01, 3.0  # of a core, and seconds in which that is looked at


def shown(host: DockerHost, *command: str) -> Any:
    return json.loads(host.flannelpy_command(*command, "--json"))


def shown_although(host: DockerHost) -> Any:
    """The status, also of a host with problems: the command ends with 1 then."""
    try:
        return shown(host, "status")
    except CommandFailed as failure:
        return json.loads(failure.stdout)


def overview(host: DockerHost) -> Any:
    return json.loads(host.http("http://127.0.0.1:9470/api/overview")[1])


def is_quick(host: DockerHost, *command: str) -> bool:
    began = time.monotonic()
    host.run(sys.executable, "-c", "pass")
    started = time.monotonic()
    host.flannelpy_command(*command)
    return time.monotonic() - started < max(QUICK, STARTS * (started - began))


def refused(host: DockerHost, *command: str) -> str:
    with pytest.raises(CommandFailed) as failure:
        host.flannelpy_command(*command)
    return str(failure.value)


@pytest.mark.alone
def test_a_healthy_cluster_is_shown_from_any_host(cluster: Cluster) -> None:
    one, other = cluster.hosts
    cluster.create("web", "--subnet", POOL)
    here, there = cluster.run(one, "here", "web"), cluster.run(other, "there", "web")

    wait_until("a quick status", lambda: is_quick(one, "status"), timeout=30)
    status = shown(one, "status")
    assert (status["host"], status["networks"], status["endpoints"], status["problems"]) == (one.name, 1, 1, [])
    assert (status["hosts"], status["silent_hosts"], status["store"]["away_for"]) == (2, [], None)
    assert "all is well" in one.flannelpy_command("status")

    hosts = {host["name"]: host for host in shown(one, "hosts")}
    assert set(hosts) == {one.name, other.name}
    assert [host["here"] for host in hosts.values()] == [name == one.name for name in hosts]
    assert hosts[other.name]["addresses"] == [other.address, other.address6]
    assert hosts[other.name]["blocks"] == 1

    [network] = shown(other, "networks")
    assert (network["name"], network["pool"], network["backend"]) == ("web", POOL, "vxlan")
    assert network["hosts"] == sorted(hosts)

    wait_until("the other host to tell", lambda: there.address in one.flannelpy_command("addresses"), timeout=30)
    uses = {entry["address"]: entry for entry in shown(one, "addresses")}
    assert (uses[here.address]["host"], uses[here.address]["container"]) == (one.name, "here")
    assert (uses[here.address]["use"], uses[here.address]["network"]) == ("container", "web")
    assert uses[there.address]["host"] == other.name
    assert [entry["address"] for entry in shown(one, "addresses", here.address)] == [here.address]
    assert "nobody has" in refused(one, "addresses", "192.0.2.77")
    assert "is not an IP address" in refused(one, "addresses", "web")


def test_at_rest_it_takes_little_memory_and_hardly_any_time(cluster: Cluster) -> None:
    one, other = cluster.hosts
    cluster.create("web", "--subnet", POOL)
    assert cluster.unreached([cluster.run(one, "here", "web"), cluster.run(other, "there", "web")]) == []
    assert one.flannelpy
    pids = family(one.flannelpy.pid)
    assert len(pids) >= 3  # gunicorn, its worker, the resolver

    def rests() -> bool:
        before = cpu_seconds(pids)
        time.sleep(WINDOW)
        return cpu_seconds(pids) - before <= IDLE * WINDOW

    wait_until("flannelpy to have nothing to do", rests, timeout=60)
    assert held_by(pids) < MOST_MEMORY


def test_health_and_metrics_are_served_to_this_host_alone(cluster: Cluster) -> None:
    one, other = cluster.hosts
    cluster.create("web", "--subnet", POOL)
    here, there = cluster.run(one, "here", "web"), cluster.run(other, "there", "web")
    assert cluster.unreached([here, there]) == []
    for path in ("/healthz", "/readyz"):
        assert one.http(f"http://127.0.0.1:9470{path}") == (200, "ok")
    status, text = one.http("http://127.0.0.1:9470/metrics")
    values = {name: float(value) for name, value in re.findall(r"^(\S+) (\S+)$", text, re.MULTILINE)}
    assert status == 200
    assert (values["flannelpy_networks"], values["flannelpy_endpoints"], values["flannelpy_problems"]) == (1, 1, 0)
    assert values[f'flannelpy_peers{{pool="{POOL}",space=""}}'] == 1
    assert values[f'flannelpy_network_bytes_total{{direction="sent",pool="{POOL}"}}'] > 0
    assert values['flannelpy_request_seconds_count{call="NetworkDriver.Join"}'] >= 1
    assert values["flannelpy_repairs_total"] > 0
    assert json.loads(one.http("http://127.0.0.1:9470/api/networks")[1])[0]["name"] == "web"
    page = overview(one)["picture"]
    assert [each["network"]["name"] for each in page["networks"]] == ["web"]
    found = json.loads(one.http("http://127.0.0.1:9470/api/containers?find=there")[1])
    assert [(each["name"], each["host"]) for each in found["containers"]] == [("there", other.name)]
    assert {block["host"] for block in page["networks"][0]["pools"][0]["held"]} == {one.name, other.name}
    status, text = one.http("http://127.0.0.1:9470/")
    assert (status, "<title>flannelpy</title>" in text) == (200, True)
    listening = one.run("ss", "-Hltn", "sport", "=", "9470").split()
    assert "127.0.0.1:9470" in listening


def test_with_the_store_away_a_host_that_has_addresses_is_ready_and_says_what_is_wrong(cluster: Cluster) -> None:
    one = cluster.hosts[0]
    cluster.create("web", "--subnet", POOL)
    assert overview(one)["picture"]
    cluster.consul.kill()
    try:
        wait_until("the store to be missed", lambda: shown_although(one)["store"]["away_for"] is not None, timeout=60)
        status = shown_although(one)
        assert status["problems"][0].startswith("the store has been away for ")
        assert one.http("http://127.0.0.1:9470/readyz") == (200, "ok")
        assert [network["name"] for network in shown(one, "networks")] == ["web"]
        assert [host["given_up"] for host in shown(one, "hosts")] == [False, False]
        seen = overview(one)
        assert [each["network"]["name"] for each in seen["picture"]["networks"]] == ["web"]
        wait_until("the picture to say how old it is", lambda: overview(one)["age"] > 1, timeout=30)
    finally:
        cluster.consul.start()
        cluster.consul.wait_leader()
