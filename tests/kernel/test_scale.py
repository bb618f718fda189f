"""A thousand other hosts, programmed for real; the bounds of time are ten times what an idle machine needs."""

import os

import pytest

from tests.consul_agent import BINARY, MISSING
from tests.scale import simulate


@pytest.mark.alone
def test_a_thousand_hosts_are_known_soon_and_one_more_at_once() -> None:
    if os.geteuid() != 0 or not BINARY.exists():
        needs = "network namespaces need root" if BINARY.exists() else MISSING
        demanded = os.environ.get("CI") or os.environ.get("LAB_REQUIRED")
        (pytest.fail if demanded else pytest.skip)(needs)
    figures = simulate(peers=1000, changes=5, idle=0)
    assert figures.from_nothing < 20
    assert figures.programming < 5
    assert sorted(figures.known)[2] < 1
    assert figures.memory < 125e6
    assert figures.bytes_per_change < 10_000
    assert figures.bytes_per_start < 10_000
    assert figures.bytes_per_stop < 10_000
