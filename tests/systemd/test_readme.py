"""The README's steps, typed as they are written, on two machines with nothing but Docker and Consul."""

from tests.systemd import cluster, readme
from tests.systemd.cluster import Installed
from tests.systemd.machine import SystemdMachine

HEADING = "## A first network"


def test_the_steps_end_with_a_service_that_is_well(installed: Installed) -> None:
    for machine, said in zip(installed.machines, installed.said, strict=True):
        assert f"{machine.hostname}" in said
        assert machine.systemd("flannelpy", "ActiveState") == "active"
        assert machine.systemd("flannelpy", "NRestarts") == "0"
        assert '"169.254.53.53"' in machine.run("cat", "/etc/docker/daemon.json")


def test_two_containers_on_two_hosts_reach_each_other_by_name(machines: list[SystemdMachine]) -> None:
    one, other = machines
    one.type(readme.block(HEADING, "docker network create"))
    cluster.await_network(other, "web")
    one.type(readme.block(HEADING, "docker run -d"))
    assert " 0% packet loss" in other.type(readme.block(HEADING, "docker run --rm"))
