"""Whatever is broken, `flannelpy trace` or `flannelpy doctor` names the cause; where nothing is, they say so.

One cluster for all faults, one fault at a time, each undone afterwards. Only faults that last: what the reconciler
repairs within seconds needs no naming."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.cluster import POOL, Cluster, Container, remove_network, side_by_side
from tests.lab.commands import CommandFailed, wait_until
from tests.lab.docker_host import DockerHost
from tests.lab.lab import Lab
from tests.lab.processes import Daemon

TTL = 15  # seconds
RESOLVER = "169.254.53.53"
OTHER = "10.250.0.0/24"
BRIDGE = "docker_gwbridge"
SPOILED = """
import socket, struct, sys, time
frame = struct.pack("!II", 0x08000000, int(sys.argv[2]) << 8) + bytes(60)
packet = struct.pack("!HHHH", 40000, 8479, 8 + len(frame), 0xBAD) + frame
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as card:
    while True:
        card.sendto(packet, (sys.argv[1], 0))
        time.sleep(0.05)
"""
RULES = 'key_prefix "flannelpy/" { policy = "write" }'
Answer = list[dict[str, str]]
Undo = Callable[[], object]


@dataclass
class Bed:
    """Two hosts, a container on each and one in another network."""

    cluster: Cluster
    a: Container
    b: Container
    apart: Container
    env: dict[str, str]
    policy: dict[str, str]

    @property
    def one(self) -> DockerHost:
        return self.cluster.hosts[0]

    @property
    def two(self) -> DockerHost:
        return self.cluster.hosts[1]

    def trace(self, to: str | None = None) -> Answer:
        return self.ask("here", to or self.b.address)

    def trace_out(self) -> Answer:
        """To the switch, which knows nothing of containers."""
        return self.trace(self.cluster.lab.switch.address)

    def ask(self, source: str, to: str) -> Answer:
        """The hops that are wrong."""
        hops: Answer = answer(self.one, "trace", source, to)["hops"]
        return [hop for hop in hops if hop["state"] == "wrong"]

    def doctor(self) -> Answer:
        findings: Answer = answer(self.one, "doctor")["findings"]
        return findings

    def settled(self) -> bool:
        """All is well again, from both sides."""
        return not any(side_by_side(lambda host: answer(host, "doctor")["findings"], self.cluster.hosts))

    def restart(self, host: DockerHost, **env: str) -> None:
        host.stop_flannelpy()
        host.start_flannelpy({**self.env, **env})

    def device(self) -> str:
        return str(self.one.run("sh", "-c", "ls /sys/class/net | grep ^fl[.]")).split()[0]

    def host_link(self) -> str:
        [inside] = json.loads(self.a.tool("ip", "-j", "link", "show", "eth0")[1])
        links = json.loads(self.one.run("ip", "-j", "link"))
        return next(str(link["ifname"]) for link in links if link["ifindex"] == inside["link_index"])


def answer(host: DockerHost, *command: str) -> Any:
    return json.loads(written(host, *command, "--json"))


def written(host: DockerHost, *command: str) -> str:
    """Also where the command ends with 1, as it does when anything is wrong."""
    try:
        return host.flannelpy_command(*command)
    except CommandFailed as failure:
        return failure.stdout


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with Lab(hosts=2, acl=True, dockerd_config={"dns": [RESOLVER]}) as lab:
        token = lab.consul.make_token(RULES)
        policy = lab.consul.api("GET", "/v1/acl/token/self", token=token)["Policies"][0]
        env = {
            "FLANNELPY_STORE": lab.consul.url,
            "CONSUL_HTTP_TOKEN": token,
            "FLANNELPY_LEASE_TTL": f"{TTL}s",
        }
        cluster = Cluster(lab)
        side_by_side(lambda host: host.start_flannelpy(env), lab.hosts)
        cluster.create("web", "--subnet", POOL)
        cluster.create("other", "--subnet", OTHER)
        a, b = cluster.run(lab.hosts[0], "here", "web"), cluster.run(lab.hosts[1], "there", "web")
        bed = Bed(cluster, a, b, cluster.run(lab.hosts[0], "apart", "other"), env, policy)
        assert cluster.unreached([a, b]) == []
        wait_until("the cluster to be well", bed.settled, timeout=90, tail=lambda: str(bed.doctor()))
        yield bed


# --- the faults: each breaks something, and gives what undoes it


def foreign_route(bed: Bed) -> Undo:
    bed.one.run("ip", "route", "add", f"{bed.b.address}/32", "via", "172.31.0.1")
    return lambda: bed.one.run("ip", "route", "del", f"{bed.b.address}/32")


def policy_routing(bed: Bed, to: str) -> Undo:
    """The main table, where all looks well, is not asked."""
    bed.one.run("ip", "route", "add", to, "dev", "eth0", "table", "77")
    bed.one.run("ip", "rule", "add", "to", to, "lookup", "77", "priority", "100")
    return lambda: bed.one.run("sh", "-c", f"ip rule del priority 100; ip route del {to} table 77")


def foreign_rule_for_the_peer(bed: Bed) -> Undo:
    return policy_routing(bed, bed.b.address)


def foreign_rule_for_the_pool(bed: Bed) -> Undo:
    return policy_routing(bed, POOL)


def overlapping_address(bed: Bed) -> Undo:
    bed.one.run("ip", "addr", "add", "10.240.63.1/24", "dev", "eth0")
    return lambda: bed.one.run("ip", "addr", "del", "10.240.63.1/24", "dev", "eth0")


def nft_table(host: DockerHost, chain: str) -> Undo:
    host.run("nft", "-f", "-", stdin=f"table inet foreign {{\n chain c {{\n {chain}\n }}\n}}\n")
    return lambda: host.run("nft", "delete", "table", "inet", "foreign")


def foreign_nft_drop(bed: Bed) -> Undo:
    return nft_table(bed.one, f"type filter hook forward priority 10; ip daddr {bed.b.address} drop;")


def foreign_nft_policy(bed: Bed) -> Undo:
    return nft_table(bed.one, 'type filter hook forward priority 10; policy drop; iifname "docker0" accept;')


def foreign_iptables_drop(bed: Bed) -> Undo:
    rule = ("-s", bed.b.address, "-j", "DROP")
    bed.one.run("iptables", "-I", "FORWARD", *rule)
    return lambda: bed.one.run("iptables", "-D", "FORWARD", *rule)


def own_input_drop(bed: Bed) -> Undo:
    return nft_table(bed.one, "type filter hook input priority 0; udp dport 8479 drop;")


def peers_input_drop(bed: Bed) -> Undo:
    return nft_table(bed.two, "type filter hook input priority 0; udp dport 8479 drop;")


def on_the_switch(bed: Bed, rule: str) -> Undo:
    switch = bed.cluster.lab.switch
    switch._nft(f"add rule bridge lab forward {rule}")
    return switch.heal


def tunnel_port_on_the_path(bed: Bed) -> Undo:
    return on_the_switch(bed, "udp dport 8479 drop")


def small_path(bed: Bed) -> Undo:
    return on_the_switch(bed, "meta length > 1400 drop")


def peer_cut_off(bed: Bed) -> Undo:
    number = bed.two.number
    return on_the_switch(bed, f"iifname {bed.cluster.lab.switch.port(number)} oifname port{bed.one.number} drop")


def inside(container: Container, broken: str, mended: str) -> Undo:
    def run(command: str) -> None:
        status, said = container.tool("sh", "-ec", command)
        assert status == 0, said

    run(broken)
    return lambda: run(mended)


def same_port_and_vni_in_another_cluster(bed: Bed) -> Undo:
    """A host of that sends to one that was its peer once."""
    switch, vni = bed.cluster.lab.switch, bed.device().removeprefix("fl.")
    ends = ("local", switch.address, "remote", bed.one.address)
    switch.ip("link", "add", "strange", "type", "vxlan", "id", vni, "dstport", "8479", *ends)
    switch.ip("addr", "add", "10.99.0.1/24", "dev", "strange")
    switch.ip("link", "set", "strange", "up")
    switch.ip("neigh", "add", "10.99.0.2", "lladdr", "02:00:00:00:00:99", "dev", "strange")
    ping = (*switch.enter, "ping", "-q", "-i", "0.05", "10.99.0.2")
    calls = Daemon("the stranger", ping, bed.cluster.lab.directory / "stranger.log")

    def undo() -> None:
        calls.kill()
        switch.ip("link", "del", "strange")

    return undo


def spoiled_checksums(bed: Bed) -> Undo:
    """What a network card of the other host makes of TCP and UDP that is tunnelled; ping passes.

    They are made by hand: where no wire is between, the kernel does not look at a checksum that it left to a card."""
    vni = bed.device().removeprefix("fl.")
    send = (sys.executable, "-c", SPOILED, bed.one.address, vni)
    return bed.two.daemon("the card", *send, log="card.log").kill


def nobody_masquerades(bed: Bed) -> Undo:
    """As after somebody's `iptables -t nat -F`."""
    [rule] = [
        line.split()[2:]
        for line in bed.one.run("iptables", "-t", "nat", "-S", "POSTROUTING").splitlines()
        if f"! -o {BRIDGE}" in line
    ]
    bed.one.run("iptables", "-t", "nat", "-D", "POSTROUTING", *rule)
    return lambda: bed.one.run("iptables", "-t", "nat", "-A", "POSTROUTING", *rule)


def pool_route_gone(bed: Bed) -> Undo:
    route = bed.a.tool("ip", "route", "show", POOL)[1].strip()
    return inside(bed.a, f"ip route del {POOL}", f"ip route add {route}")


def routes_again(bed: Bed) -> str:
    """The command that sets the routes of eth0 as they are now."""
    routes = bed.a.tool("ip", "route", "show", "dev", "eth0")[1].splitlines()
    routes.sort(key=lambda route: " via " in route)  # the kernel wants the way to the gateway first
    return "; ".join(f"ip route replace {route} dev eth0" for route in routes)


def interface_down(bed: Bed) -> Undo:
    again = routes_again(bed)
    return inside(bed.a, "ip link set eth0 down", f"ip link set eth0 up; {again}")


def address_gone(bed: Bed) -> Undo:
    again = routes_again(bed)
    address = f"{bed.a.address}/32"
    return inside(bed.a, f"ip addr del {address} dev eth0", f"ip addr add {address} dev eth0; {again}")


def others_route_gone(bed: Bed) -> Undo:
    route = bed.b.tool("ip", "route", "show", POOL)[1].strip()
    return inside(bed.b, f"ip route del {POOL}", f"ip route add {route}")


def switch_off(host: DockerHost, name: str, broken: str, mended: str) -> Undo:
    host.run("sh", "-c", f"echo {broken} >/proc/sys/net/{name}")
    return lambda: host.run("sh", "-c", f"echo {mended} >/proc/sys/net/{name}")


def forwarding_off(bed: Bed) -> Undo:
    return switch_off(bed.one, f"ipv4/conf/{bed.host_link()}/forwarding", "0", "1")


def wrong_neighbour(bed: Bed) -> Undo:
    entry = ("to", bed.a.address, "dev", bed.host_link())
    bed.one.run("ip", "neigh", "replace", *entry, "lladdr", "02:00:00:00:00:99", "nud", "permanent")
    return lambda: bed.one.run("ip", "neigh", "del", *entry)


def engine_away(bed: Bed) -> Undo:
    bed.one.run("mv", "/run/docker.sock", "/run/docker.sock.away")
    return lambda: bed.one.run("mv", "/run/docker.sock.away", "/run/docker.sock")


def allow(bed: Bed, rules: str) -> None:
    """The hosts' token that, and nothing else."""
    body = {"Name": bed.policy["Name"], "Rules": rules}
    bed.cluster.consul.api("PUT", f"/v1/acl/policy/{bed.policy['ID']}", body)


def forbidden(bed: Bed) -> Undo:
    allow(bed, "")
    return lambda: allow(bed, RULES)


def read_only(bed: Bed) -> Undo:
    allow(bed, RULES.replace("write", "read"))
    return lambda: allow(bed, RULES)


def may_not_beat(bed: Bed) -> Undo:
    """So the lease ends, though all else goes on."""
    allow(bed, f'{RULES} key_prefix "flannelpy/hosts/" {{ policy = "read" }}')
    return lambda: allow(bed, RULES)


def unknown_token(bed: Bed) -> Undo:
    bed.restart(bed.one, CONSUL_HTTP_TOKEN="11111111-2222-3333-4444-555555555555")
    return lambda: bed.restart(bed.one)


def peers_plugin_down(bed: Bed) -> Undo:
    bed.two.kill_flannelpy()
    return lambda: bed.two.start_flannelpy(bed.env)


def asks_another_resolver(bed: Bed) -> Undo:
    """A network of its own, for the doctor asks from one container of each."""
    cluster = bed.cluster
    cluster.create("named", "--subnet", "10.251.0.0/24")
    cluster.run(bed.one, "asker", "named", "--dns", "172.31.0.1")
    asked = cluster.run(bed.two, "asked", "named")
    wait_until("the name to come", lambda: bed.ask("asker", asked.address) == [], timeout=60)

    def undo() -> None:
        bed.one.docker("rm", "-f", "asker")
        bed.two.docker("rm", "-f", "asked")
        remove_network(bed.one, "named")
        remove_network(bed.two, "named")

    return undo


def wrong_address(bed: Bed) -> Undo:
    bed.restart(bed.one, FLANNELPY_ADDRESS="172.31.0.77")
    return lambda: bed.restart(bed.one)


def peers_wrong_address(bed: Bed) -> Undo:
    bed.restart(bed.two, FLANNELPY_ADDRESS="172.31.0.77")
    return lambda: bed.restart(bed.two)


def one_address_for_both(bed: Bed) -> Undo:
    bed.restart(bed.two, FLANNELPY_ADDRESS=bed.one.address)
    return lambda: bed.restart(bed.two)


def wrong_interface(bed: Bed) -> Undo:
    """One of Docker's bridges, which has the same address on every host."""
    bed.restart(bed.one, FLANNELPY_IFACE=BRIDGE)
    return lambda: bed.restart(bed.one)


def mistyped_key(bed: Bed) -> Undo:
    where = f"/v1/kv/flannelpy/leases/{POOL.replace('/', '-')}/ten"
    bed.cluster.consul.api("PUT", where, {"host": "h2"})
    return lambda: bed.cluster.consul.api("DELETE", where)


def store_away(bed: Bed) -> Undo:
    bed.cluster.consul.pause()
    return bed.cluster.consul.resume


def nothing(bed: Bed) -> Undo:
    return lambda: None


FAULTS = [
    (foreign_route, Bed.trace, "route", "a route that is not of flannelpy takes packets"),
    (foreign_route, Bed.doctor, "overlap", "/32 on eth0 is not of flannelpy"),
    (foreign_rule_for_the_peer, Bed.trace, "route", "table 77"),
    (foreign_rule_for_the_pool, Bed.trace, "host link", "table 77"),
    (overlapping_address, Bed.doctor, "overlap", "10.240.63.0/24 on eth0"),
    (foreign_nft_drop, Bed.trace, "policy", "inet foreign c"),
    (foreign_nft_policy, Bed.doctor, "forward", "the policy drop in chain inet foreign c"),
    (foreign_iptables_drop, Bed.trace, "policy", "in chain ip filter FORWARD"),
    (own_input_drop, Bed.doctor, "tunnel port", "what peers send to UDP port 8479"),
    (peers_input_drop, Bed.doctor, "tunnel", "but not through the tunnel"),
    (tunnel_port_on_the_path, Bed.trace, "tunnel", "but not through the tunnel"),
    (small_path, Bed.trace, "mtu", "loses packets of 1500 bytes"),
    (small_path, Bed.doctor, "mtu", "loses packets of 1500 bytes"),
    (peer_cut_off, Bed.trace, "underlay", "does not answer at 172.31.0.12"),
    (same_port_and_vni_in_another_cluster, Bed.doctor, "strangers", "tunnel packets came from no peer"),
    (spoiled_checksums, Bed.doctor, "checksums", "UDP packets with a wrong checksum came in"),
    (nobody_masquerades, Bed.trace_out, "end to end", "172.31.0.1 answers this host, but not here"),
    (pool_route_gone, Bed.trace, "container", "the wrong way"),
    (interface_down, Bed.trace, "container", "eth0 of here is down"),
    (address_gone, Bed.trace, "container", "does not have the address"),
    (others_route_gone, Bed.trace, "target", "but 10.240."),
    (forwarding_off, Bed.trace, "host link", "forwarding is 0"),
    (wrong_neighbour, Bed.trace, "host link", "02:00:00:00:00:99"),
    (engine_away, Bed.doctor, "engine", "does not answer"),
    (forbidden, Bed.doctor, "store", "does not allow this host's token"),
    (read_only, Bed.doctor, "store", "does not allow this host's token"),
    (may_not_beat, Bed.doctor, "store", "does not allow this host's token"),
    (may_not_beat, Bed.doctor, "lease", "s ago and lasts 15 s"),
    (unknown_token, Bed.doctor, "store", "does not allow this host's token"),
    (nothing, lambda bed: bed.trace("10.240.60.9"), "holder", "nobody has 10.240.60.9"),
    (nothing, lambda bed: bed.trace("apart"), "network", "networks do not reach each other"),
    (peers_plugin_down, Bed.doctor, "silent host", "no sign of life"),
    (asks_another_resolver, Bed.doctor, "names", "asker asked for asked.flannelpy"),
    (asks_another_resolver, lambda bed: bed.ask("asker", "asked"), "name", "asker asked for asked.flannelpy"),
    (wrong_address, Bed.doctor, "published address", "172.31.0.77"),
    (peers_wrong_address, Bed.doctor, "underlay", "does not answer at 172.31.0.77"),
    (
        wrong_interface,
        Bed.doctor,
        "interface",
        "leave by eth0, but the others are told to send to this host's docker_gwbr",
    ),
    (one_address_for_both, Bed.doctor, "shared address", "all publish 172.31.0.11"),
    (mistyped_key, Bed.doctor, "record", "/ten in the store cannot be read"),
    (store_away, Bed.doctor, "store", "the store is away"),
    (store_away, Bed.doctor, "lease", "the lease has lapsed"),
]


@contextmanager
def broken(bed: Bed, fault: Callable[[Bed], Undo]) -> Iterator[None]:
    undo = fault(bed)
    try:
        yield
    finally:
        undo()


@pytest.mark.parametrize(("fault", "ask", "where", "says"), FAULTS, ids=[f"{f[0].__name__}-{f[2]}" for f in FAULTS])
def test_the_cause_is_named(
    bed: Bed, fault: Callable[[Bed], Undo], ask: Callable[[Bed], Answer], where: str, says: str
) -> None:
    found: Answer = []
    causes = {each[2] for each in FAULTS if each[:2] == (fault, ask)}  # of a store that is away, the lease is another

    # What is found first is the cause.
    def named() -> bool:
        found[:] = ask(bed)
        told = [(each.get("hop") or each["check"], each["says"]) for each in found]
        return bool(told) and told[0][0] in causes and any(name == where and says in said for name, said in told)

    with broken(bed, fault):
        wait_until(f"{where}: {says}", named, timeout=3 * TTL, tail=lambda: json.dumps(found, indent=1))


def test_where_nothing_is_broken_nothing_is_found(bed: Bed) -> None:
    wait_until("the cluster to be well", bed.settled, timeout=90, tail=lambda: str(bed.doctor()))
    said: list[str] = []

    def nothing_found() -> bool:
        """All of it at one moment, for a busy machine may find something in between."""
        one = answer(bed.one, "trace", "here", bed.b.address)["hops"]
        other = answer(bed.two, "trace", "there", bed.a.address)["hops"]
        out = answer(bed.one, "trace", "here", bed.cluster.lab.switch.address)["hops"]
        doctor = written(bed.one, "doctor")
        trace = written(bed.one, "trace", bed.a.address, "there")
        said[:] = [str(one), str(other), str(out), doctor, trace]
        states = {hop["state"] for hop in [*one, *other, *out]}
        return states == {"ok"} and "nothing wrong was found" in doctor and "there.flannelpy" in trace

    wait_until("nothing to be found", nothing_found, timeout=60, tail=lambda: "\n".join(said))
