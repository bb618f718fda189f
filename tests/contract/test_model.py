"""Random commits, compared with the simplest thing that could be right: a dictionary."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.interface import ABSENT, Change, Check, Delete, Put, Store
from tests.contract.conftest import CONSUL_STORES, closing

KEYS = ("a", "a/b", "a/c", "ab", "b/d")
PREFIXES = ("", "a", "a/", "b/", "c")


@dataclass(frozen=True)
class Intent:
    """A change whose expected version is known once there is a store to look at."""

    kind: type[Change]
    key: str
    expect: str
    value: bytes

    def change(self, base: str, versions: Mapping[str, int]) -> Change:
        at = versions.get(self.key, ABSENT)
        expect = {"right": at, "absent": ABSENT, "wrong": at + 1}[self.expect]
        if self.kind is Put:
            return Put(base + self.key, self.value, expect)
        return self.kind(base + self.key, expect)  # type: ignore[call-arg]

    def holds(self, model: Mapping[str, bytes]) -> bool:
        if self.key not in model:
            return self.kind is Delete or self.expect != "wrong"
        return self.expect == "right"

    def apply(self, model: dict[str, bytes]) -> None:
        if self.kind is Put:
            model[self.key] = self.value
        elif self.kind is Delete:
            model.pop(self.key, None)


intents = st.builds(
    Intent,
    st.sampled_from([Put, Put, Delete, Check]),
    st.sampled_from(KEYS),
    st.sampled_from(["right", "right", "right", "right", "absent", "wrong"]),
    st.sampled_from([b"", b"1", b"2", b"\xff\0"]),
)
histories = st.lists(st.lists(intents, max_size=3, unique_by=lambda intent: intent.key), max_size=12)
examples = count()  # each works below a prefix of its own, so that one store serves all
one_store_serves_all = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.fixture(params=CONSUL_STORES)
def remote_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    yield from closing(request)


@given(history=histories)
@settings(max_examples=150, deadline=None, suppress_health_check=one_store_serves_all)
def test_a_local_store_is_a_dictionary(local_store: Store, history: list[list[Intent]]) -> None:
    replay(local_store, history)


@given(history=histories)
@settings(max_examples=20, deadline=None, suppress_health_check=one_store_serves_all)
def test_consul_is_a_dictionary(remote_store: Store, history: list[list[Intent]]) -> None:
    replay(remote_store, history)


def replay(store: Store, history: list[list[Intent]]) -> None:
    base = f"example-{next(examples)}/"
    model: dict[str, bytes] = {}
    versions: dict[str, int] = {}
    for commit in history:
        holds = all(intent.holds(model) for intent in commit)
        assert store.commit(*(intent.change(base, versions) for intent in commit)) is holds
        before = dict(model)
        if holds:
            for intent in commit:
                intent.apply(model)
        found = {key.removeprefix(base): entry for key, entry in store.read(base).entries.items()}
        assert {key: entry.value for key, entry in found.items()} == model
        for key, entry in found.items():
            unchanged = key in before and before[key] == entry.value
            assert entry.version == versions[key] if unchanged else entry.version > max([ABSENT, *versions.values()])
        versions = {key: entry.version for key, entry in found.items()}
        for prefix in PREFIXES:
            assert store.read(base + prefix).entries.keys() == {base + key for key in model if key.startswith(prefix)}
