"""Whatever comes in, JSON goes out; and what was refused was not begun."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plugin_bodies import BODIES
from tests.unit.plugin_fakes import Plugin

TEXTS = st.one_of(
    st.text(max_size=20),
    st.from_regex(r"[0-9.:/%,a-f]{0,24}", fullmatch=True),
    st.ip_addresses().map(str),
    st.builds("{}/{}".format, st.ip_addresses(), st.integers(-1, 129)),
    st.sampled_from(
        [
            "",
            "0.0.0.0/0",
            "::/0",
            "10.77.0.0/16",
            "10.77.0.0/0xf",
            "fe80::%1/64",
            "1" * 5000,
            "\x00",
            "\u2028",
            "\ud800",
        ]
    ),
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.integers(-(10**40), 10**40), st.floats(), TEXTS)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
EXAMPLES = settings(max_examples=75, deadline=None)

Path = tuple[str | int, ...]


def places(value: object, here: Path = ()) -> list[Path]:
    """Every place inside a body where something else could stand."""
    inner: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [here, *(place for key, part in inner for place in places(part, (*here, key)))]


def replaced(body: Any, place: Path, put: Any) -> Any:
    """The body with `put` at `place`, or without that place if `put` is `...`."""
    if not place:
        return {} if put is ... else put
    changed = copy.deepcopy(body)
    parent = changed
    for key in place[:-1]:
        parent = parent[key]
    if put is ...:
        del parent[place[-1]]
    else:
        parent[place[-1]] = put
    return changed


@pytest.fixture(scope="module")
def plugin() -> Plugin:
    return Plugin()


def check(plugin: Plugin, call: str, body: bytes) -> None:
    plugin.ipam.calls.clear()
    plugin.driver.calls.clear()
    response = plugin.client.post(f"/{call}", data=body)
    answer = response.get_json(force=True)
    assert isinstance(answer, dict)
    if response.status_code != 200:
        assert response.status_code == 400
        assert plugin.calls == []
        assert answer["Err"] == answer["Error"]
        assert answer["Err"]
        assert answer["Err"].isprintable()
        assert len(answer["Err"]) < 1500


@pytest.mark.parametrize("call", BODIES)
@EXAMPLES
@given(data=st.data())
def test_valid_bodies_with_one_or_two_things_changed(plugin: Plugin, call: str, data: st.DataObject) -> None:
    body = BODIES[call]
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(places(body)))
        body = replaced(body, place, data.draw(st.one_of(st.just(...), ANYTHING)))
    check(plugin, call, json.dumps(body).encode())


@pytest.mark.parametrize("call", BODIES)
@EXAMPLES
@given(body=ANYTHING)
def test_any_json(plugin: Plugin, call: str, body: object) -> None:
    check(plugin, call, json.dumps(body).encode())


@EXAMPLES
@given(call=st.sampled_from(list(BODIES)), body=st.binary(max_size=60))
def test_any_bytes(plugin: Plugin, call: str, body: bytes) -> None:
    check(plugin, call, body)


@EXAMPLES
@given(call=st.sampled_from(list(BODIES)), data=st.data())
def test_valid_bodies_with_some_bytes_changed(plugin: Plugin, call: str, data: st.DataObject) -> None:
    body = bytearray(json.dumps(BODIES[call]).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    check(plugin, call, bytes(body))


@EXAMPLES
@given(path=st.text(max_size=30), method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "BREW"]))
def test_any_path_and_method(plugin: Plugin, path: str, method: str) -> None:
    environ = {"PATH_INFO": f"/{path}".encode(errors="replace").decode("latin-1")}
    response = plugin.client.open(method=method, environ_overrides=environ)
    assert response.status_code in (405, 501)
    if method != "HEAD":
        assert response.get_json(force=True)["Err"].isprintable()
