"""Which links get the program, and how its instructions are written down: pure. What it does is tested in kernels."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from driver.fast_path.instructions import BYTE, EQUAL, R0, R1, R2, R10, WORD, Code
from driver.fast_path.wanted import MOST, of_links
from driver.goal import LocalNetwork, goal
from driver.model import Endpoint, Network, Published
from driver.plan import plan
from driver.state import EndpointLink, FastPath, Object, State, state_of
from tests.unit.test_goal import ENDPOINT, OTHER, UNDERLAY
from tests.unit.test_goal import NET as ORDINARY

LINK = ENDPOINT.host_link
NET = replace(ORDINARY, fast_path=True)
OTHER_NET = replace(NET, id="m" * 64, vni=8, pools=tuple(pool.supernet(2) for pool in NET.pools))
PUBLISHED = Published(6, UNDERLAY.addresses[0], 8080, 80)


def links(network: Network, endpoint: Endpoint = ENDPOINT, ethernet: bool = True) -> list[str]:
    return [o.dev for o in of_links(replace(UNDERLAY, ethernet=ethernet), [(network, [endpoint])])]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"fast_path": True}, [LINK, "fl.7"]),
        ({"fast_path": True, "direct_routing": True}, [LINK, "fl.7", "eth0"]),
        ({"fast_path": True, "backend": "host-gw"}, [LINK, "eth0"]),
        ({"fast_path": True, "backend": "wireguard"}, []),
        ({"fast_path": True, "backend": "udp"}, []),
        ({"fast_path": True, "adopted": True}, []),
    ],
)
def test_links_of_containers_and_those_to_other_hosts_have_it(change: dict[str, object], expected: list[str]) -> None:
    assert links(replace(ORDINARY, **change)) == expected  # type: ignore[arg-type]  # each of its own type


@pytest.mark.parametrize("network", [replace(NET, backend="host-gw"), replace(NET, direct_routing=True)])
def test_a_network_on_an_underlay_of_another_type_has_none(network: Network) -> None:
    assert links(network, ethernet=False) == []
    assert links(NET, ethernet=False) == [LINK, "fl.7"]


def test_a_network_with_a_published_port_here_has_none_of_it_here() -> None:
    published = replace(ENDPOINT, id="p" * 64, published=(PUBLISHED,))
    both = [(replace(NET, direct=True), [ENDPOINT, published]), (OTHER_NET, [])]
    assert [o.dev for o in of_links(UNDERLAY, both)] == ["fl.8"]


def on_the_underlay(*pools: str) -> tuple[Network, list[Endpoint]]:
    return replace(NET, backend="host-gw", pools=tuple(map(ip_network, pools))), []


def test_networks_share_what_the_underlay_has_and_the_order_does_not_matter() -> None:
    networks = [
        on_the_underlay("10.1.0.0/16", "fd77::/64"),
        on_the_underlay("fd78::/64"),
        on_the_underlay("10.2.0.0/16"),
    ]
    [one], [other] = (list(of_links(UNDERLAY, some)) for some in (networks, networks[::-1]))
    assert one == other
    assert one not in [next(of_links(UNDERLAY, [each])) for each in networks]


def test_no_more_networks_than_a_program_should_compare_with() -> None:
    many = [on_the_underlay(f"10.{number}.0.0/16", f"fd77:{number:x}::/64") for number in range(MOST + 1)]
    [one], [other] = (list(of_links(UNDERLAY, some)) for some in (many, many[:MOST]))
    assert one == other


def fast_paths(actual: State, *, underlay: bool = True, fast: bool = True) -> list[str]:
    local = LocalNetwork(NET, (ENDPOINT,), (OTHER,))
    desired = goal("h1", UNDERLAY if underlay else None, [local], actual, fast=fast)
    return [o.dev for o in desired.values() if isinstance(o, FastPath)]


def test_links_that_are_not_there_wait_for_theirs() -> None:
    assert fast_paths({}) == ["fl.7"]
    assert fast_paths(state_of([EndpointLink(LINK)])) == [LINK, "fl.7"]
    assert fast_paths(state_of([EndpointLink(LINK)]), fast=False) == []


def test_it_stays_while_the_underlay_is_not_known() -> None:
    standing: list[Object] = [EndpointLink(LINK), *(FastPath(dev, "0") for dev in (LINK, "eth0", "flvgone"))]
    assert fast_paths(state_of(standing), underlay=False) == [LINK, "eth0"]


def test_one_of_another_shape_is_replaced_and_one_too_many_is_dropped() -> None:
    old, new = FastPath("eth0", "0"), FastPath("eth0", "1", b"code")
    assert [str(operation) for operation in plan(state_of([old]), state_of([new]))] == ["+ fast path 1 dev eth0"]
    assert [str(operation) for operation in plan(state_of([old]), {})] == ["- fast path 0 dev eth0"]
    assert plan(state_of([FastPath("eth0", "1")]), state_of([new])) == []


def test_instructions_are_written_as_the_kernel_reads_them() -> None:
    code = Code()
    code.load(BYTE, R1, R2, 22)
    code.jump(R1, EQUAL, 1, "end")
    code.store_number(WORD, R10, -8, 7)
    code.label("end")
    code.set(R0, -1)
    code.exit()
    written = bytes(code)
    assert [written[at : at + 8].hex() for at in range(0, len(written), 8)] == [
        "7121160000000000",  # r1 = *(u8 *)(r2 + 22)
        "1601010001000000",  # if w1 == 1 goto +1
        "620af8ff07000000",  # *(u32 *)(r10 - 8) = 7
        "b7000000ffffffff",  # r0 = -1
        "9500000000000000",  # exit
    ]
