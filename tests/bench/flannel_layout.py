"""What flannel's vxlan backend makes in the kernels of two Docker hosts, without flannel: a bridge and a tunnel each.

As its documentation and `ip` on a host with flannel show it: containers on a Docker bridge with a /24 of their own, the
device flannel.1 (VNI 1, UDP port 8472, learning off), for each other host a route, a neighbour and a forwarding entry,
and both directions accepted where Docker drops. flannel's own processes take no part in a packet's way."""

from tests.lab.docker_host import DockerHost


def lay_out(one: DockerHost, other: DockerHost, network: str) -> None:
    for number, (host, peer) in enumerate([(one, other), (other, one)], start=1):
        mine, theirs = f"10.252.{number}", f"10.252.{3 - number}"
        bridge(host, network, f"{mine}.0/24", host.switch.mtu - 50)
        accept(host, "10.252.0.0/16")
        host.run("sh", "-ec", TUNNEL, "sh", f"{mine}.0", host.address, mac(host))
        host.run("sh", "-ec", PEER, "sh", f"{theirs}.0", peer.address, mac(peer))


def bridge(host: DockerHost, network: str, subnet: str, mtu: int) -> None:
    """Docker's own, without masquerading, as flannel's documentation has dockerd started."""
    options = {"com.docker.network.bridge.enable_ip_masquerade": "false", "com.docker.network.driver.mtu": str(mtu)}
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    host.docker("network", "create", "-d", "bridge", "--subnet", subnet, *words, network)


def accept(host: DockerHost, pool: str) -> None:
    for direction in ("-s", "-d"):
        host.run("iptables", "-I", "DOCKER-USER", direction, pool, "-j", "ACCEPT")


TUNNEL = """
ip link add flannel.1 address "$3" type vxlan id 1 dev eth0 local "$2" dstport 8472 nolearning
ip addr add "$1/32" dev flannel.1
ip link set flannel.1 up
"""
PEER = """
ip neigh add "$1" lladdr "$3" dev flannel.1 nud permanent
bridge fdb add "$3" dst "$2" dev flannel.1
ip route add "$1/24" via "$1" dev flannel.1 onlink
"""


def mac(host: DockerHost) -> str:
    return f"02:f1:a0:00:00:{host.number:02x}"
