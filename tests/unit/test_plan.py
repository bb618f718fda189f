"""The planner: pure, so every case is a literal."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

from hypothesis import given
from hypothesis import strategies as st

from driver.entries import Fdb, Key, Neighbour, Route, Unreachable
from driver.plan import Drop, Operation, Put, plan
from driver.state import Address, BridgeLink, EndpointLink, LinkState, Object, State, VxlanLink, state_of

MAC = "02:00:00:00:00:02"
LINK = VxlanLink("fl.7", 7, ip_address("192.0.2.1"), 8479, "02:00:00:00:00:01")
BASE: list[Object] = [LINK, LinkState("fl.7", 1450), Address("fl.7", ip_interface("10.5.1.0/32"))]
PEER: list[Object] = [
    Neighbour("fl.7", ip_address("10.5.2.0"), MAC),
    Fdb("fl.7", MAC, ip_address("192.0.2.2")),
    Route("fl.7", ip_network("10.5.2.0/26"), ip_address("10.5.2.0"), ip_address("10.5.1.0"), onlink=True),
]


def texts(actual: list[Object], desired: list[Object]) -> list[str]:
    return [str(operation) for operation in plan(state_of(actual), state_of(desired))]


def test_a_new_peer_gets_its_neighbour_and_fdb_entry_before_its_route() -> None:
    assert texts([*BASE], [*BASE, *PEER]) == [
        f"+ neigh 10.5.2.0 lladdr {MAC} dev fl.7",
        f"+ fdb {MAC} dst 192.0.2.2 dev fl.7",
        "+ route 10.5.2.0/26 via 10.5.2.0 dev fl.7 src 10.5.1.0 onlink",
    ]


def test_a_peer_that_left_loses_its_route_first() -> None:
    assert texts([*BASE, *PEER], [*BASE]) == [
        "- route 10.5.2.0/26 via 10.5.2.0 dev fl.7 src 10.5.1.0 onlink",
        f"- neigh 10.5.2.0 lladdr {MAC} dev fl.7",
        f"- fdb {MAC} dst 192.0.2.2 dev fl.7",
    ]


def test_a_tunnel_gets_another_mac_or_address_of_its_own_while_packets_flow() -> None:
    for moved in (replace(LINK, local=ip_address("192.0.2.9")), replace(LINK, mac=MAC)):
        assert texts([*BASE, *PEER], [moved, *BASE[1:], *PEER]) == [f"+ {moved}"]
    other_family = replace(LINK, local=ip_address("fd00::1"))
    assert texts([*BASE], [other_family, *BASE[1:]])[:2] == [f"- {LINK}", f"+ {other_family}"]


def test_a_link_made_anew_gets_back_all_that_hung_on_it() -> None:
    moved = VxlanLink("fl.7", 7, LINK.local, 8480, LINK.mac)
    assert texts([*BASE, *PEER], [moved, *BASE[1:], *PEER]) == [
        f"- {LINK}",
        f"+ {moved}",
        *(f"+ {o}" for o in [*BASE[1:], *PEER]),
    ]


def test_an_mtu_changes_in_place() -> None:
    assert texts([*BASE], [LINK, LinkState("fl.7", 1400), BASE[2]]) == ["+ link fl.7 mtu 1400 up"]


def test_a_link_that_goes_takes_along_what_hangs_on_it() -> None:
    assert texts([*BASE, *PEER, Unreachable(ip_network("10.5.0.0/16"))], []) == [
        "- route unreachable 10.5.0.0/16",
        f"- {LINK}",
    ]


def test_a_container_link_left_behind_is_removed() -> None:
    assert texts([EndpointLink("flv1"), LinkState("flv1", 1450)], []) == ["- link flv1 type veth"]


def test_nothing_to_do_is_no_operation() -> None:
    assert texts([*BASE, *PEER], [*BASE, *PEER]) == []


DEVS = ["fl.1", "fl.2"]
ADDRESSES = [ip_address(f"10.5.{n}.0") for n in range(3)]
REMOTES = [ip_address("192.0.2.2"), ip_address("192.0.2.3")]


@st.composite
def states(draw: st.DrawFn) -> dict[Key, Object]:
    """A state whose objects hang on links that are in it."""
    objects: list[Object] = []
    for dev in draw(st.sets(st.sampled_from(DEVS))):
        link = st.builds(VxlanLink, st.just(dev), st.integers(1, 2), st.sampled_from(REMOTES), st.just(1), st.just(MAC))
        objects.append(draw(st.one_of(link, st.just(BridgeLink(dev, MAC)))))
        objects.append(LinkState(dev, draw(st.integers(1400, 1401))))
        for address in draw(st.sets(st.sampled_from(ADDRESSES))):
            objects.append(Neighbour(dev, address, draw(st.sampled_from([MAC, "02:00:00:00:00:03"]))))
            objects.append(Route(dev, ip_network(f"{address}/26"), address))
    return state_of(objects)


def run(state: State, operations: list[Operation]) -> dict[Key, Object]:
    """A small kernel: a link takes along what hangs on it, and nothing hangs on a link that is not there."""
    now = dict(state)
    for operation in operations:
        o = operation.object
        if isinstance(operation, Put):
            assert o.rank == 0 or not o.dev or ("link", o.dev) in now, f"{operation} before its link"
            now[o.key] = o
        elif o.rank == 0:
            now = {key: other for key, other in now.items() if other.dev != o.dev}
        else:
            now.pop(o.key, None)
    return now


@given(states(), states())
def test_carrying_out_the_plan_leads_to_what_is_desired(actual: dict[Key, Object], desired: dict[Key, Object]) -> None:
    assert run(actual, plan(actual, desired)) == desired


@given(states(), states())
def test_a_crash_after_any_step_leaves_only_the_rest_to_do(
    actual: dict[Key, Object], desired: dict[Key, Object]
) -> None:
    operations = plan(actual, desired)
    for done in range(len(operations) + 1):
        halfway = run(actual, operations[:done])
        assert run(halfway, plan(halfway, desired)) == desired


@given(states(), states())
def test_what_stays_as_it_is_is_not_touched(actual: dict[Key, Object], desired: dict[Key, Object]) -> None:
    operations = plan(actual, desired)
    remade = {
        operation.object.dev for operation in operations if isinstance(operation, Drop) and operation.object.rank == 0
    }
    for operation in operations:
        o = operation.object
        if o.dev not in remade:
            assert actual.get(o.key) != desired.get(o.key)
