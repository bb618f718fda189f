"""Two machines for the whole run; the tests follow the README, and then a service's life up to its removal."""

from collections.abc import Generator, Iterator

import pytest

from tests.lab import requirements
from tests.lab.cluster import FLANNELPY, POOL, side_by_side
from tests.lab.lab import Lab
from tests.systemd import cluster
from tests.systemd.cluster import Installed, Pair
from tests.systemd.machine import SystemdMachine, missing

SERVICES = ("flannelpy", "docker", "consul")
MACHINES: list[SystemdMachine] = []


@pytest.fixture(scope="session")
def installed() -> Iterator[Installed]:
    """Fresh machines on which the README's commands have been typed."""
    with Lab(hosts=0) as lab:
        try:
            MACHINES[:] = cluster.fresh_machines(lab)
            yield Installed(MACHINES, side_by_side(cluster.install, MACHINES))
        except BaseException as error:
            error.add_note("\n".join(machine.journal("flannelpy") for machine in MACHINES))
            raise
        finally:
            side_by_side(SystemdMachine.power_off, MACHINES)
            MACHINES.clear()


@pytest.fixture
def machines(installed: Installed) -> Iterator[list[SystemdMachine]]:
    """Afterwards without containers."""
    yield installed.machines
    side_by_side(cluster.remove_containers, installed.machines)


@pytest.fixture
def pair(machines: list[SystemdMachine]) -> Pair:
    """A container on each, in one network."""
    one, other = machines
    if not cluster.has_network(one, "web"):
        one.docker("network", "create", *FLANNELPY, "--subnet", POOL, "web")
    cluster.await_network(other, "web")
    return cluster.run(one, "one", "web"), cluster.run(other, "other", "web")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    if sentence := requirements.missing() or missing():
        pytest.fail(sentence, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections += [
            (f"{unit} of {machine.hostname}", machine.journal(unit))
            for machine in MACHINES
            if machine.powered
            for unit in SERVICES
        ]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in cluster.TOLD:
        terminalreporter.write_line(line)
