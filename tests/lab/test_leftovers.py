"""Nothing stays behind, and hosts that act at the same moment do not disturb each other.

That nothing is left in kernels, records and Consul is looked at by the fixture, after each test."""

from functools import partial

import pytest

from driver.backends import BACKENDS
from tests.lab.cluster import FLANNELPY, POOL, POOL6, Cluster, side_by_side
from tests.lab.commands import CommandFailed, wait_until
from tests.lab.docker_host import DockerHost
from tests.lab.snapshot import Snapshot, differences

DUAL = ("--ipv6", "--subnet", POOL, "--subnet", POOL6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_removed_container_leaves_nothing(cluster: Cluster, backend: str) -> None:
    cluster.create("web", "-o", f"backend={backend}", *DUAL)
    before = without_resting_addresses(cluster.steady_traces())
    containers = cluster.run_everywhere(2, "web")
    assert cluster.unreached(containers) == []
    side_by_side(DockerHost.remove_containers, cluster.hosts)

    def left() -> str:
        return differences(without_resting_addresses(before), without_resting_addresses(cluster.traces()))

    wait_until("nothing to be left", lambda: not left(), timeout=45, tail=left)  # its record goes a moment later


def without_resting_addresses(traces: Snapshot) -> Snapshot:
    """An address that was released is remembered until it is given again: it is not to be given too soon. Who has which
    address is a record that lives as long as the block."""
    left_out = ("addresses/", "flannelpy/leases/")
    return {kind: {line for line in lines if not line.startswith(left_out)} for kind, lines in traces.items()}


def test_a_network_removed_on_one_host_lives_on_on_the_other(cluster: Cluster) -> None:
    one, other = cluster.hosts
    cluster.create("web", "--subnet", POOL)
    containers = [cluster.run(other, name, "web") for name in ("first", "second")]
    one.docker("network", "rm", "web")
    assert cluster.unreached(containers) == []
    one.docker("network", "create", *FLANNELPY, "--subnet", POOL, "web")
    assert cluster.unreached([*containers, cluster.run(one, "third", "web")]) == []


def test_twenty_quick_lives_of_a_network_leave_nothing(cluster: Cluster) -> None:
    """Ten on each host at the same time, in the same pool, in no step with each other."""

    def live(host: DockerHost) -> None:
        for number in range(10):
            host.docker("network", "create", *FLANNELPY, "--subnet", POOL, "web")
            host.docker("run", "--rm", "--name", f"quick-{number}", "--network", "web", "lab/busybox", "true")
            host.docker("network", "rm", "web")

    side_by_side(live, cluster.hosts)


def test_a_network_is_created_and_removed_on_both_hosts_at_the_same_moment(cluster: Cluster) -> None:
    for number in range(4):
        subnet = f"10.{230 + number}.0.0/20"
        refused = side_by_side(partial(create, subnet=subnet), cluster.hosts)
        for host, said in zip(cluster.hosts, refused, strict=True):
            if said:
                assert "try again" in said
                assert create(host, subnet) == ""
        assert cluster.unreached(cluster.run_everywhere(1, "web", first=number)) == []
        side_by_side(DockerHost.remove_containers, cluster.hosts)
        side_by_side(lambda host: host.docker("network", "rm", "web"), cluster.hosts)
        cluster.expect_nothing_left()


def create(host: DockerHost, subnet: str) -> str:
    """What was said against it, empty when it worked."""
    try:
        host.docker("network", "create", *FLANNELPY, "--subnet", subnet, "web")
    except CommandFailed as failed:
        return failed.stderr
    return ""


def test_networks_that_find_their_own_pools_at_the_same_moment_do_not_overlap(cluster: Cluster) -> None:
    def several(host: DockerHost) -> list[str]:
        for name in ("first", "second", "third"):
            host.docker("network", "create", *FLANNELPY, name)
        return [
            host.docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", name)
            for name in ("first", "second", "third")
        ]

    pools = [pool for some in side_by_side(several, cluster.hosts) for pool in some]
    assert len(set(pools)) == 6


def test_ten_containers_started_at_once_on_each_host(cluster: Cluster) -> None:
    cluster.create("web", *DUAL)
    containers = cluster.run_everywhere(10, "web")
    addresses = [address for container in containers for address in container.addresses]
    assert len(addresses) == len(set(addresses)) == 40
    for container in (containers[0], containers[-1]):
        assert container.unreached(addresses) == []


def test_containers_come_and_go_on_both_hosts_at_once(cluster: Cluster) -> None:
    """More lives than a small pool has addresses that rested: none is refused for that."""
    cluster.create("web", "--subnet", "10.240.0.0/28")

    def live(host: DockerHost) -> None:
        for number in range(8):
            host.docker("run", "--rm", "--name", f"brief-{number}", "--network", "web", "lab/busybox", "true")

    side_by_side(live, cluster.hosts)
