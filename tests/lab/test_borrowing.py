"""A pool that is used to its last address, by hosts that borrow from each other."""

from tests.lab.cluster import Cluster, Container, side_by_side
from tests.lab.docker_host import DockerHost

SMALL = "10.240.0.0/28"
FOR_CONTAINERS = 16 - 2 - 1 - 2  # not the first, the last, the gateway, nor one for each host itself


def test_a_pool_is_used_to_its_last_address_and_the_next_one_is_refused_in_words(cluster: Cluster) -> None:
    cluster.create("web", "--subnet", SMALL)
    full: list[Container] = []
    while len(full) < FOR_CONTAINERS:
        host = cluster.hosts[len(full) % 2]
        full.append(cluster.run(host, f"c{len(full)}", "web"))
    assert len({container.address for container in full}) == FOR_CONTAINERS
    assert cluster.unreached([full[0], full[1], full[-1], full[-2]]) == []

    def refusal(host: DockerHost) -> str:
        return host.docker_refused("run", "--rm", "--network", "web", "lab/busybox", "true")

    for said in side_by_side(refusal, cluster.hosts):
        assert f"pool {SMALL} (16 addresses) has no free address left; most blocks: " in said
        assert cluster.hosts[0].name in said
    gone = full.pop()
    gone.host.docker("rm", "-f", gone.name)
    other = next(host for host in cluster.hosts if host is not gone.host)
    assert cluster.run(other, "again", "web").address == gone.address
