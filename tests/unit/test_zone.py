"""Who is told which names: pure, over one zone."""

from ipaddress import ip_address

import dns.edns
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from names import wire
from names.messages import Member, Update, changed, decode, lines
from names.resolver import answer
from names.zone import Zone

WEB, DB = "10.240.0.0/18", "10.241.0.0/18"
IN_WEB, IN_DB, IN_BOTH, STRANGER = "10.240.0.10", "10.241.0.10", "10.240.0.11", "172.17.0.2"
MEMBERS = {
    "1": Member(WEB, "web", "shop1", ("shop1", "shop", "0123456789ab"), ("10.240.0.21", "fd77::21")),
    "2": Member(WEB, "web", "shop2", ("shop2", "shop"), ("10.240.0.22",)),
    "3": Member(DB, "db", "Store", ("Store", "shop"), ("10.241.0.21",)),
}
KNOWN = Update(
    members=dict(MEMBERS),
    askers={IN_WEB: (WEB,), IN_DB: (DB,), IN_BOTH: (WEB, DB)},
    prefixes={WEB: (WEB, "fd77::/64"), DB: (DB,)},
)


@pytest.fixture
def zone() -> Zone:
    zone = Zone()
    zone.apply(KNOWN)
    return zone


def ask(zone: Zone, source: str, name: str, kind: str = "A", *, datagram: bool = True, edns: int = -1) -> str:
    """The code and the records, as text; a name is asked for as people type it."""
    query = dns.message.make_query(name, kind, use_edns=edns)
    reply = dns.message.from_wire(answer(zone, query.to_wire(), source, datagram=datagram) or b"")
    assert query.is_response(reply)
    assert reply.edns == (0 if edns >= 0 else -1)
    records = [item.to_text() for rrset in reply.answer for item in rrset]
    return " ".join([dns.rcode.to_text(reply.rcode()), *records])


@pytest.mark.parametrize(
    ("source", "name", "kind", "expected"),
    [
        (IN_WEB, "shop1", "A", "NOERROR 10.240.0.21"),
        (IN_WEB, "SHOP1.", "A", "NOERROR 10.240.0.21"),
        (IN_WEB, "shop1.web", "A", "NOERROR 10.240.0.21"),
        (IN_WEB, "0123456789ab", "A", "NOERROR 10.240.0.21"),
        (IN_WEB, "shop1", "AAAA", "NOERROR fd77::21"),
        (IN_WEB, "shop2", "AAAA", "NOERROR"),  # the name is there, and has no such address
        (IN_WEB, "shop1", "MX", "NOERROR"),
        (IN_WEB, "shop1.flannelpy", "A", "NOERROR 10.240.0.21"),
        (IN_WEB, "shop1.web.flannelpy", "A", "NOERROR 10.240.0.21"),
        (IN_WEB, "nobody.flannelpy", "A", "NXDOMAIN"),  # nobody else can know
        (IN_WEB, "nobody", "A", "REFUSED"),  # the next server may
        (IN_WEB, "example.org", "A", "REFUSED"),
        (IN_WEB, "store", "A", "REFUSED"),  # in a network of others
        (IN_WEB, "store.db", "A", "REFUSED"),
        (IN_WEB, "store.flannelpy", "A", "NXDOMAIN"),
        (IN_DB, "store", "A", "NOERROR 10.241.0.21"),
        (IN_BOTH, "store", "A", "NOERROR 10.241.0.21"),
        (IN_BOTH, "shop1", "A", "NOERROR 10.240.0.21"),
        (STRANGER, "shop1", "A", "REFUSED"),
        (STRANGER, "shop1.flannelpy", "A", "REFUSED"),
        (IN_WEB, "21.0.240.10.in-addr.arpa", "PTR", "NOERROR shop1.web."),
        (IN_WEB, "99.0.240.10.in-addr.arpa", "PTR", "NXDOMAIN"),  # ours, and nobody has it
        (IN_WEB, "21.0.241.10.in-addr.arpa", "PTR", "REFUSED"),
        (IN_DB, "21.0.241.10.in-addr.arpa", "PTR", "NOERROR Store.db."),
        (IN_WEB, "8.8.8.8.in-addr.arpa", "PTR", "REFUSED"),
        (IN_WEB, "in-addr.arpa", "PTR", "REFUSED"),
        (IN_WEB, f"{'.'.join(reversed(ip_address('fd77::21').exploded.replace(':', '')))}.ip6.arpa", "PTR",
         "NOERROR shop1.web."),
        (IN_WEB, ".", "NS", "REFUSED"),
    ],
)  # fmt: skip
def test_who_is_told_what(zone: Zone, source: str, name: str, kind: str, expected: str) -> None:
    assert ask(zone, source, name, kind) == expected
    assert ask(zone, source, name, kind, edns=0, datagram=False) == expected


def test_several_addresses_take_turns(zone: Zone) -> None:
    assert {ask(zone, IN_WEB, "shop") for _ in range(2)} == {
        "NOERROR 10.240.0.21 10.240.0.22",
        "NOERROR 10.240.0.22 10.240.0.21",
    }


def test_programs_that_ask_for_both_families_see_turns_too(zone: Zone) -> None:
    seen = set()
    for _ in range(2):
        seen.add(ask(zone, IN_WEB, "shop"))
        ask(zone, IN_WEB, "shop", "AAAA")
    assert len(seen) == 2


def silent(*keys: str) -> Update:
    return Update(members={key: replace(MEMBERS[key], silent=True) for key in keys})


def test_a_container_of_a_silent_host_is_told_of_where_no_other_has_the_name(zone: Zone) -> None:
    zone.apply(silent("1"))
    assert {ask(zone, IN_WEB, "shop") for _ in range(4)} == {"NOERROR 10.240.0.22"}
    assert ask(zone, IN_WEB, "shop1") == "NOERROR 10.240.0.21"
    assert ask(zone, IN_WEB, "shop", "AAAA") == "NOERROR fd77::21"
    assert ask(zone, IN_WEB, "21.0.240.10.in-addr.arpa", "PTR") == "NOERROR shop1.web."
    zone.apply(silent("2"))
    assert {ask(zone, IN_WEB, "shop") for _ in range(2)} == {
        "NOERROR 10.240.0.21 10.240.0.22",
        "NOERROR 10.240.0.22 10.240.0.21",
    }
    zone.apply(Update(members={"1": MEMBERS["1"]}))
    assert ask(zone, IN_WEB, "shop") == "NOERROR 10.240.0.21"


def test_who_is_in_two_networks_is_told_of_the_living_in_either(zone: Zone) -> None:
    zone.apply(silent("1", "2"))
    assert ask(zone, IN_BOTH, "shop") == "NOERROR 10.241.0.21"
    zone.apply(silent("3"))
    assert len(ask(zone, IN_BOTH, "shop").split()) == 4


def test_a_name_lives_as_long_as_somebody_has_it(zone: Zone) -> None:
    zone.apply(Update(members={"1": None}))
    assert ask(zone, IN_WEB, "shop") == "NOERROR 10.240.0.22"
    assert ask(zone, IN_WEB, "shop1") == "REFUSED"
    zone.apply(Update(members={"1": None, "2": None}))
    assert ask(zone, IN_WEB, "shop") == "REFUSED"


def test_an_address_that_moved_on_keeps_its_new_name(zone: Zone) -> None:
    zone.apply(Update(members={"9": Member(WEB, "web", "heir", ("heir",), ("10.240.0.21",))}))
    zone.apply(Update(members={"1": None}))
    assert ask(zone, IN_WEB, "21.0.240.10.in-addr.arpa", "PTR") == "NOERROR heir.web."


def test_a_container_that_left_a_network_no_longer_sees_it(zone: Zone) -> None:
    zone.apply(Update(askers={IN_BOTH: (DB,), IN_WEB: None}))
    assert ask(zone, IN_BOTH, "shop1") == "REFUSED"
    assert ask(zone, IN_WEB, "shop1") == "REFUSED"


def test_a_long_answer_is_cut_over_udp_and_whole_over_tcp(zone: Zone) -> None:
    crowd = {str(n): Member(WEB, "web", f"c{n}", ("crowd",), (f"10.240.1.{n}",)) for n in range(1, 101)}
    zone.apply(Update(members=dict(crowd)))
    query = dns.message.make_query("crowd", "A", use_edns=False)
    for datagram, edns, whole in [(True, False, False), (True, True, False), (False, False, True)]:
        query.use_edns(0 if edns else False)
        wire = answer(zone, query.to_wire(), IN_WEB, datagram=datagram) or b""
        reply = dns.message.from_wire(wire)
        assert bool(reply.flags & dns.flags.TC) != whole
        assert len(wire) <= (1232 if edns else 512) or not datagram
        assert len(reply.answer[0]) == 100 or not whole


def test_a_name_that_dns_cannot_carry_harms_no_other(zone: Zone) -> None:
    zone.apply(Update(members={"x": Member(WEB, "n" * 70, "c" * 80, ("a..b",), ("10.240.0.77",))}))
    assert ask(zone, IN_WEB, "77.0.240.10.in-addr.arpa", "PTR") == "NOERROR"
    assert ask(zone, IN_WEB, "shop1") == "NOERROR 10.240.0.21"


def header(
    *, flags: int = 0x0100, questions: int = 1, others: tuple[int, int, int] = (0, 0, 0), rest: bytes = b""
) -> bytes:
    counts = b"".join(count.to_bytes(2) for count in (questions, *others))
    return b"\xab\xcd" + flags.to_bytes(2) + counts + rest


SHOP1 = b"\x05shop1\0\0\x01\0\x01"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (header(rest=SHOP1), dns.rcode.NOERROR),
        (header(rest=SHOP1[:-1]), dns.rcode.FORMERR),
        (header(questions=0), dns.rcode.FORMERR),
        (header(questions=2, rest=SHOP1 * 2), dns.rcode.FORMERR),
        (header(flags=0x2800, rest=SHOP1), dns.rcode.NOTIMP),  # an update
        (header(rest=b"\xc0\x0c\0\x01\0\x01"), dns.rcode.FORMERR),  # a name that points to itself
        (header(rest=b"\x05shop1\0\0\x01\0\x03"), dns.rcode.REFUSED),  # class CHAOS
        (header(rest=SHOP1 + b"\0" * 5000), dns.rcode.FORMERR),
        (header(rest=SHOP1)[:-10] + b"\xff" * 10, dns.rcode.FORMERR),
    ],
)
def test_wrong_queries_are_told_so(zone: Zone, message: bytes, code: dns.rcode.Rcode) -> None:
    reply = answer(zone, message, IN_WEB, datagram=True) or b""
    assert reply[:2] == message[:2]
    assert reply[3] & 0xF == code


EDNS = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
RECORD = b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\0"  # of the name asked for


@pytest.mark.parametrize(
    "message",
    [
        header(others=(90, 0, 0), rest=SHOP1 + RECORD * 90),
        header(others=(0, 90, 0), rest=SHOP1 + RECORD * 90),
        header(others=(0, 0, 1), rest=SHOP1 + RECORD),
        header(others=(0, 0, 2), rest=SHOP1 + EDNS * 2),
        header(others=(0, 0, 1), rest=SHOP1 + EDNS[:-1]),
        header(others=(0, 0, 0), rest=SHOP1 + EDNS),
        header(questions=90, rest=SHOP1 * 90),
        header(rest=SHOP1 + b"\0" * (wire.LARGEST_QUERY - len(header(rest=SHOP1)) + 1)),
    ],
)
def test_one_question_and_edns_is_all_that_may_be_said(message: bytes) -> None:
    query = wire.parse(message)
    assert query is not None
    assert query.error == wire.FORMERR


@pytest.mark.parametrize("message", [b"", b"\0" * 11, header(flags=0x8180, rest=SHOP1)])
def test_what_is_no_query_is_not_answered(zone: Zone, message: bytes) -> None:
    """Else two servers could be made to talk to each other for ever."""
    assert answer(zone, message, IN_WEB, datagram=True) is None


def test_a_newer_edns_is_told_which_one_is_spoken(zone: Zone) -> None:
    wire = answer(zone, dns.message.make_query("shop1", "A", use_edns=1).to_wire(), IN_WEB, datagram=True) or b""
    assert dns.message.from_wire(wire).rcode() == dns.rcode.BADVERS


TRUE_QUERY = dns.message.make_query("shop1.web", "AAAA", use_edns=0).to_wire()
mangled = st.builds(
    lambda at, noise, cut: (TRUE_QUERY[:at] + noise + TRUE_QUERY[at + len(noise) :])[:cut],
    st.integers(2, len(TRUE_QUERY)),
    st.binary(max_size=20),
    st.integers(0, 80),
)


@settings(deadline=None)  # a busy machine is not the resolver's fault
@given(message=st.binary(max_size=600) | mangled | st.binary(max_size=80).map(lambda rest: header(rest=rest)))
@example(message=header(questions=65535, rest=SHOP1))
@example(message=header(rest=b"\x3f" + b"a" * 63) * 20)
def test_no_bytes_break_the_resolver(message: bytes) -> None:
    zone = Zone()
    zone.apply(KNOWN)
    for source in (IN_WEB, STRANGER):
        for datagram in (True, False):
            reply = answer(zone, message, source, datagram=datagram)
            assert reply is None or (reply[:2] == message[:2] and reply[2] & 0x80)
            assert reply is None or len(reply) <= 512 + len(message)


members = st.dictionaries(
    st.sampled_from("123456"), st.sampled_from([*MEMBERS.values(), replace(MEMBERS["1"], silent=True)])
)


@settings(deadline=None)
@given(states=st.lists(members, min_size=1, max_size=5))
def test_told_by_differences_or_at_once_is_the_same(states: list[dict[str, Member]]) -> None:
    told, zone, whole = Update(), Zone(), Zone()
    for state in states:
        known = Update(dict(state), KNOWN.askers, KNOWN.prefixes)
        news = Update(changed(told.members, known.members), changed(told.askers, known.askers), known.prefixes)
        for line in lines(news):
            zone.apply(decode(line))
        told = known
    whole.apply(Update(dict(states[-1]), KNOWN.askers, KNOWN.prefixes))
    for name in ("shop", "shop1", "shop2", "store", "0123456789ab"):
        for source in (IN_WEB, IN_DB, IN_BOTH):
            assert sorted(ask(zone, source, name).split()) == sorted(ask(whole, source, name).split())
