"""The service goes, last of all."""

import json

from tests.lab.cluster import side_by_side
from tests.lab.commands import wait_until
from tests.systemd import cluster
from tests.systemd.cluster import Pair
from tests.systemd.machine import SystemdMachine

WRITTEN = (
    "/etc/systemd/system/flannelpy.service",
    "/etc/systemd/system/flannelpy-stand-in.service",
    "/etc/flannelpy.env",
)


def exists(machine: SystemdMachine, path: str) -> bool:
    return machine.attempt("test", "-e", path).returncode == 0


def remove_networks(machine: SystemdMachine) -> None:
    """With all containers gone, they go on the other machine as well."""
    for name in cluster.networks(machine):
        machine.docker("network", "rm", name)


def test_uninstall_refuses_while_there_are_networks_and_then_leaves_nothing(pair: Pair) -> None:
    machine, other = (container.host for container in pair)
    refused = machine.attempt("flannelpy", "uninstall", "--yes")
    assert refused.returncode == 1
    assert "web" in refused.stderr
    assert machine.systemd("flannelpy", "ActiveState") == "active"

    side_by_side(cluster.remove_containers, [machine, other])
    remove_networks(machine)
    wait_until("the networks to go", lambda: not cluster.networks(other), timeout=30, every=0.2)
    machine.type("flannelpy uninstall\nsystemctl restart docker")

    assert machine.systemd("flannelpy", "LoadState") == "not-found"
    assert [path for path in WRITTEN if exists(machine, path)] == []
    assert "dns" not in json.loads(machine.run("cat", "/etc/docker/daemon.json"))
    assert machine.docker("run", "--rm", "busybox", "echo", "alive") == "alive"
