"""The service under a real systemd: watched, killed, stopped, started with the machine. Traffic notices nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from plugin.install import ENVIRONMENT
from plugin.stand_in import SENTENCE
from tests.lab.cluster import FLANNELPY, PingStream
from tests.lab.commands import wait_until
from tests.promises import best_of
from tests.systemd import cluster
from tests.systemd.cluster import Container, Installed, Pair
from tests.systemd.machine import SystemdMachine

FED = 30  # seconds from one sign of life to the next: a third of the unit's WatchdogSec
DROP_ALL = "add table inet foreign; add chain inet foreign c { type filter hook forward priority -10; policy drop; }"
IMPATIENT = "/run/systemd/system/flannelpy.service.d/impatient.conf"


def kill(machine: SystemdMachine) -> None:
    machine.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", "flannelpy")


def restart(machine: SystemdMachine) -> None:
    machine.run("systemctl", "restart", "flannelpy")


def main_process(machine: SystemdMachine) -> str:
    return machine.systemd("flannelpy", "MainPID")


def worker(machine: SystemdMachine) -> str:
    """The process that serves, the first that the service's own starts."""
    main = main_process(machine)
    return machine.run("cat", f"/proc/{main}/task/{main}/children").split()[0]


def await_another(machine: SystemdMachine, former: str) -> None:
    """Ready, and another process than it was."""

    def is_there() -> bool:
        return machine.systemd("flannelpy", "ActiveState") == "active" and main_process(machine) not in (former, "0")

    wait_until("flannelpy to be back", is_there, timeout=45, tail=lambda: machine.journal("flannelpy"), every=0.2)


@contextmanager
def with_watchdog(machine: SystemdMachine, seconds: int) -> Iterator[None]:
    """The unit waits for a minute and a half."""
    machine.run("install", "-D", "-m", "644", "/dev/stdin", IMPATIENT, stdin=f"[Service]\nWatchdogSec={seconds}\n")
    machine.run("systemctl", "daemon-reload")
    restart(machine)
    try:
        yield
    finally:
        machine.run("rm", IMPATIENT)
        machine.run("systemctl", "daemon-reload")
        restart(machine)


def test_the_watchdog_is_fed(installed: Installed) -> None:
    machine = installed.machines[0]
    assert machine.systemd("flannelpy", "WatchdogUSec") == "1min 30s"
    former = machine.systemd("flannelpy", "WatchdogTimestampMonotonic")
    wait_until(
        "the watchdog to hear of flannelpy",
        lambda: machine.systemd("flannelpy", "WatchdogTimestampMonotonic") != former,
        timeout=FED + 5,
        every=1,
    )


def test_the_resolver_of_names_is_nobodys_under_this_unit(installed: Installed) -> None:
    machine = installed.machines[0]
    children = machine.run("sh", "-c", f"cat /proc/{worker(machine)}/task/*/children").split()
    status = [machine.run("cat", f"/proc/{child}/status") for child in children]
    assert [text for text in status if "\nUid:\t65534\t" in text and "\nCapEff:\t0000000000000000\n" in text]
    assert "stays root" not in machine.journal("flannelpy")


@pytest.mark.parametrize("end", [kill, restart], ids=["killed", "restarted"])
def test_no_packet_is_lost_when_the_service_is(pair: Pair, end: Callable[[SystemdMachine], None]) -> None:
    one, other = pair
    former = main_process(one.host)
    with PingStream(one, other.address) as there, PingStream(other, one.address) as back:
        end(one.host)
        await_another(one.host, former)
    assert (there.lost(), back.lost()) == ([], [])
    cluster.await_reached(pair)


def test_a_worker_that_hangs_is_replaced_and_no_packet_lost(pair: Pair) -> None:
    one, other = pair
    with with_watchdog(one.host, seconds=6):
        former = main_process(one.host)
        with PingStream(one, other.address) as there, PingStream(other, one.address) as back:
            one.host.run("sh", "-c", 'kill -STOP "$0"', worker(one.host))
            await_another(one.host, former)
        assert (there.lost(), back.lost()) == ([], [])
        assert "Watchdog timeout" in one.host.journal("flannelpy")
    cluster.await_reached(pair)


def test_a_new_container_waits_while_the_service_restarts(pair: Pair) -> None:
    one, other = pair
    kill(one.host)
    late = cluster.run(one.host, "late", "web")
    cluster.await_reached([late, other])


def test_the_fast_path_works_with_the_rights_that_the_unit_leaves(machines: list[SystemdMachine]) -> None:
    """A rule of the hosts that drops all they forward is not met."""
    one, other = machines
    one.docker("network", "create", *FLANNELPY, "-o", "fast-path=true", "--subnet", "10.241.0.0/18", "fast")
    cluster.await_network(other, "fast")
    pair = (cluster.run(one, "one", "fast"), cluster.run(other, "other", "fast"))
    cluster.await_reached(pair)
    for machine in machines:
        machine.run(
            "nft",
            "add table inet foreign; add chain inet foreign c { type filter hook forward priority -10; policy drop; }",
        )
    try:
        for here, there in (pair, pair[::-1]):
            assert here.pings(there.address)
    finally:
        for machine in machines:
            machine.run("nft", "delete table inet foreign")


def test_the_doctor_finds_nothing(pair: Pair) -> None:
    for container in pair:
        done = container.host.attempt("flannelpy", "doctor")
        assert done.returncode == 0, done.stdout


def test_status_takes_300_ms_of_a_processor_at_most(pair: Pair) -> None:
    """By the clock it is the same on a machine that does nothing else."""
    machine = pair[0].host

    def measure() -> float:
        timed = machine.run("bash", "-c", "TIMEFORMAT='%U %S'; { time flannelpy status >/dev/null; } 2>&1")
        return sum(map(float, timed.split()))

    cluster.TOLD.append(f"flannelpy status: {best_of(measure, 0.3, tries=10) * 1000:.0f} ms of a processor")


def test_what_systemd_says_of_the_units_hardening(installed: Installed) -> None:
    for unit in ("flannelpy", "flannelpy-stand-in"):
        said = installed.machines[0].run("systemd-analyze", "security", "--no-pager", unit)
        cluster.TOLD.append(said.splitlines()[-1])


def test_containers_are_back_after_a_reboot(machines: list[SystemdMachine]) -> None:
    """flannelpy is ready before Docker starts, so that Docker itself starts what is to run always."""
    one, other = machines
    there = cluster.run(other, "there", "web")
    cluster.run(one, "back", "web", "--restart", "always")
    one.reboot()
    ready = int(one.systemd("flannelpy", "ActiveEnterTimestampMonotonic"))
    assert 0 < ready <= int(one.systemd("docker", "ExecMainStartTimestampMonotonic"))
    back = cluster.look(one, "back", "web")
    cluster.await_reached([there, back])
    assert one.docker_json("inspect", "back")[0]["RestartCount"] == 0


WRONG = "FLANNELPY_LOG=loud"


@pytest.mark.parametrize(
    ("prevent", "mend"),
    [
        (f"echo {WRONG} >>{ENVIRONMENT}", f"sed -i /{WRONG}/d {ENVIRONMENT}; systemctl restart flannelpy"),
        ("systemctl disable flannelpy", "systemctl enable --now flannelpy"),
    ],
    ids=["wrong", "disabled"],
)
def test_docker_starts_at_once_beside_a_flannelpy_that_cannot(pair: Pair, prevent: str, mend: str) -> None:
    """Somebody else says so to Docker. Once flannelpy can, all is as it was."""
    (one, other), machine = pair, pair[0].host
    machine.docker("update", "--restart", "always", one.name)
    machine.type(prevent)
    machine.reboot()
    assert start_of_docker(machine) < 8
    assert machine.systemd("flannelpy", "ActiveState") in ("failed", "inactive")
    assert SENTENCE in machine.docker_json("inspect", one.name)[0]["State"]["Error"]
    machine.type(mend)
    wait_until("the container to be back", lambda: is_running(one), timeout=60)
    cluster.await_reached([cluster.look(machine, one.name, "web"), other])
    wait_until(
        "the stand-in to end", lambda: machine.systemd("flannelpy-stand-in", "ActiveState") == "inactive", timeout=10
    )


def start_of_docker(machine: SystemdMachine) -> float:
    """Seconds until its API answered, told in the end."""
    began, ready = (
        int(machine.systemd("docker", f"{moment}TimestampMonotonic")) for moment in ("InactiveExit", "ActiveEnter")
    )
    took = (ready - began) / 1e6
    cluster.TOLD.append(f"Docker's start without flannelpy: {took:.1f} s")
    return took


def is_running(container: Container) -> bool:
    return bool(container.host.docker_json("inspect", container.name)[0]["State"]["Running"])
