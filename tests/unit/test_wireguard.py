"""What the wireguard backend asks of the kernel, in the operator's words: pure."""

from contextlib import nullcontext
from dataclasses import replace
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import cast

import pytest

from driver import wireguard_tool
from driver.backends import BACKENDS
from driver.backends.interface import Remote, Underlay
from driver.entries import AllowedIp, WireguardPeer
from driver.goal import LocalNetwork, goal
from driver.kernel import Kernel
from driver.model import Network, mac_of
from driver.plan import Put, plan
from driver.state import State, WireguardLink
from driver.wireguard import WireguardDoor
from driver.wireguard_key import HostKey

POOL, POOL6, OTHER_POOL = ip_network("10.240.0.0/18"), ip_network("fd77::/64"), ip_network("10.242.0.0/18")
A, B, C = ("sy9hm5aMXhIgDpcr6y1fMq3qyZJPoROI2OmC4ZPXRFM=", "A" * 43 + "=", "B" * 42 + "A=")
V4, V6 = ip_address("192.0.2.1"), ip_address("fd00:1::1")
UNDERLAY = Underlay("eth0", 1500, (V4, V6), (V4, V6), ())
NET = Network("n", (POOL, POOL6), (POOL[1], POOL6[1]), "wireguard", 7, 8481, None, False, (ip_address("10.240.1.1"),))
OTHER_NET = Network("m", (OTHER_POOL,), (OTHER_POOL[1],), "wireguard", 8, 8481, 1300, False, ())
REMOTE = Remote(
    "h2",
    (ip_address("192.0.2.2"), ip_address("fd00:1::2")),
    (ip_network("10.240.2.0/26"), ip_network("fd77::200/122")),
    A,
)


def wanted(*locals_: LocalNetwork, underlay: Underlay = UNDERLAY, actual: State | None = None) -> State:
    return goal("h1", underlay, locals_, actual or {})


def local(*remotes: Remote, network: Network = NET) -> LocalNetwork:
    return LocalNetwork(network, (), remotes)


def test_one_peer_per_host_one_allowed_prefix_and_route_per_block() -> None:
    assert [str(o) for o in wanted(local(REMOTE)).values()] == [
        f"link fl.7 address {mac_of('h1', 7)} type bridge",
        "link fl.wg8481 type wireguard",
        "wg fl.wg8481 listen-port 8481",
        "link fl.wg8481 mtu 1420 up",
        f"wg fl.wg8481 peer {A} endpoint 192.0.2.2:8481",
        f"wg fl.wg8481 peer {A} allowed-ips 10.240.2.0/26",
        "route 10.240.2.0/26 dev fl.wg8481 src 10.240.1.1",
        f"wg fl.wg8481 peer {A} allowed-ips fd77::200/122",
        "route fd77::200/122 dev fl.wg8481",
        "link fl.7 mtu 1420 up",
        "addr 10.240.1.1/32 dev fl.7",
        "route unreachable 10.240.0.0/18",
        "route unreachable fd77::/64",
    ]


def test_networks_of_one_port_share_the_device_and_the_peer() -> None:
    there = replace(REMOTE, blocks=(ip_network("10.242.1.0/26"),))
    both = wanted(local(REMOTE), local(there, network=OTHER_NET))
    assert [o for o in both.values() if isinstance(o, WireguardPeer)] == [
        WireguardPeer("fl.wg8481", A, "192.0.2.2:8481")
    ]
    assert {str(o.destination) for o in both.values() if isinstance(o, AllowedIp)} == {
        "10.240.2.0/26",
        "fd77::200/122",
        "10.242.1.0/26",
    }
    assert str(both["state", "fl.wg8481"]) == "link fl.wg8481 mtu 1420 up"  # whatever a network's containers have
    after = plan(both, wanted(local(REMOTE)))
    assert [str(op) for op in after if "wg8481" in str(op)] == [
        "- route 10.242.1.0/26 dev fl.wg8481",
        f"- wg fl.wg8481 peer {A} allowed-ips 10.242.1.0/26",
    ]


def test_a_port_of_its_own_is_a_device_of_its_own() -> None:
    assert ("link", "fl.wg9000") in wanted(local(REMOTE, network=replace(NET, port=9000)))


def test_a_borrowed_address_moves_to_the_other_peer_in_one_step() -> None:
    loan = ip_network("10.240.2.9/32")
    borrower = Remote("h3", (ip_address("192.0.2.3"),), (ip_network("10.240.3.0/26"),), B)
    before = wanted(local(REMOTE, replace(borrower, blocks=(*borrower.blocks, loan))))
    moved = wanted(local(replace(REMOTE, blocks=(*REMOTE.blocks, loan)), borrower))
    assert [str(op) for op in plan(before, moved)] == [f"+ wg fl.wg8481 peer {A} allowed-ips 10.240.2.9/32"]
    given_back = wanted(local(REMOTE, borrower))
    assert [str(op) for op in plan(before, given_back)] == [
        "- route 10.240.2.9/32 dev fl.wg8481 src 10.240.1.1",
        f"- wg fl.wg8481 peer {B} allowed-ips 10.240.2.9/32",
    ]


def test_both_sides_choose_the_same_family_whatever_is_preferred() -> None:
    backwards = replace(REMOTE, addresses=REMOTE.addresses[::-1])
    only_v6 = replace(REMOTE, addresses=REMOTE.addresses[1:])
    assert f"wg fl.wg8481 peer {A} endpoint 192.0.2.2:8481" in map(str, wanted(local(backwards)).values())
    assert f"wg fl.wg8481 peer {A} endpoint [fd00:1::2]:8481" in map(str, wanted(local(only_v6)).values())


def test_a_host_behind_an_address_translator_keeps_its_way_open() -> None:
    translated = replace(UNDERLAY, advertised=(ip_address("198.51.100.7"),))
    peer = f"wg fl.wg8481 peer {A} endpoint 192.0.2.2:8481"
    assert f"{peer} persistent-keepalive 25" in map(str, wanted(local(REMOTE), underlay=translated).values())
    assert peer in map(str, wanted(local(REMOTE)).values())


@pytest.mark.parametrize("key", [None, "", "remove", "A" * 44, A[:-1], f"{A}\n"])
def test_a_host_without_a_key_is_told_of_and_gets_nothing(key: str | None) -> None:
    other = replace(REMOTE, public_key=key)
    assert BACKENDS["wireguard"].refusal(UNDERLAY, other) == (
        "host h2 has published no WireGuard key, so nothing is sent to it; see its log"
    )
    assert not any(isinstance(o, WireguardPeer | AllowedIp) for o in wanted(local(other)).values())
    assert BACKENDS["wireguard"].refusal(UNDERLAY, REMOTE) is None


def test_hosts_without_a_common_family_are_told_of() -> None:
    only_v6, only_v4 = replace(REMOTE, addresses=REMOTE.addresses[1:]), replace(UNDERLAY, addresses=(V4,))
    assert BACKENDS["wireguard"].refusal(only_v4, only_v6) == (
        "host h2 has only fd00:1::2 and this host only 192.0.2.1: give both an address of one family"
    )


def test_what_is_known_of_one_network_counts_though_another_on_the_device_is_not_known() -> None:
    there = replace(REMOTE, blocks=(ip_network("10.242.1.0/26"),))
    before = wanted(local(REMOTE), local(there, network=OTHER_NET))
    moved = replace(REMOTE, addresses=(ip_address("192.0.2.9"),), blocks=REMOTE.blocks[:1])
    unknown = LocalNetwork(OTHER_NET, (), None)
    for networks in ((local(moved), unknown), (unknown, local(moved))):
        after = wanted(*networks, actual=before)
        assert [str(op) for op in plan(before, after)] == [
            f"+ wg fl.wg8481 peer {A} endpoint 192.0.2.9:8481",
            "- route fd77::200/122 dev fl.wg8481",
            f"- wg fl.wg8481 peer {A} allowed-ips fd77::200/122",
        ]


class KernelWithWireguard:
    """As far as a link that is missing is looked for there."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def links_of(self, _: str) -> list[str]:
        return ["silent", "lost"]

    def rename_link(self, old: str, new: str) -> None:
        self.done.append(f"{old} is {new}")

    def add_wireguard(self, dev: str) -> bool:
        self.done.append(f"new {dev}")
        return True


@pytest.mark.parametrize(
    ("key", "port", "done"),
    [
        (A, 8481, ["lost is fl.wg8481"]),
        (A, 9000, ["new fl.wg8481"]),  # another device of ours
        (B, 8481, ["new fl.wg8481"]),  # somebody else's
    ],
)
def test_the_kernels_device_under_another_name_is_known_by_its_key_and_port(
    monkeypatch: pytest.MonkeyPatch, key: str, port: int, done: list[str]
) -> None:
    """tests/kernel has it for real, where the kernel has WireGuard."""
    kernel = KernelWithWireguard()
    dumps = {"silent": "", "lost": f"(none)\t{key}\t{port}\toff\n"}
    monkeypatch.setattr(wireguard_tool, "run", lambda *command, **_: dumps[command[2]])
    own = cast(HostKey, SimpleNamespace(public=lambda: A))
    door = WireguardDoor(own, lambda: nullcontext(cast(Kernel, kernel)))
    assert door.apply_all([Put(WireguardLink("fl.wg8481"))]) == {}
    assert kernel.done == done
