"""Fixtures of the tests that need real Docker hosts."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.lab import requirements
from tests.lab.cluster import Cluster, Keeper
from tests.lab.lab import Lab

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Two Docker hosts and one Consul server for the whole run, flannelpy on neither: leave it as you found it."""
    with Lab(hosts=2) as made:
        yield made


@pytest.fixture(scope="session")
def clusters() -> Iterator[Keeper]:
    """Two hosts with flannelpy, for tests that break nothing."""
    with Keeper() as keeper:
        yield keeper


@pytest.fixture
def cluster(clusters: Keeper) -> Iterator[Cluster]:
    """What the test made is removed afterwards, and then nothing may be left anywhere."""
    with clusters.lend() as cluster:
        yield cluster


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Nobody has to remember the marker."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.lab)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Before any fixture makes a half of a lab."""
    if sentence := requirements.missing():
        if requirements.demanded():
            pytest.fail(sentence, pytrace=False)
        pytest.skip(sentence)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The reason for a failure is often in a log that is gone with the lab."""
    report = yield
    if report.failed:
        for lab in Lab.open:
            for host in lab.hosts:
                report.sections += [(f"{name} of {host.name}", text) for name, text in host.logs().items()]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in Lab.times:
        terminalreporter.write_line(f"lab: {line}")
