"""The lab itself, before anything is built on it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import cgroups, commands, docker_host, processes
from tests.lab.commands import CommandFailed, wait_until
from tests.lab.docker_host import PLUGIN_SOCKET, DockerHost
from tests.lab.images import ROOT
from tests.lab.lab import Lab, folder_of
from tests.lab.namespaces import NAMED
from tests.lab.snapshot import differences

STAND_IN = """#!{python}
# Stands for flannelpy: a master and a worker that listen on the plugin socket and tell what they were started with.
import os, pathlib, socket, sys, time
path = pathlib.Path("{socket}")
path.parent.mkdir(parents=True, exist_ok=True)
path.unlink(missing_ok=True)
listener = socket.socket(socket.AF_UNIX)
listener.bind(str(path))
listener.listen()
print(sys.argv[1:], os.environ["FLANNELPY_HOST"], os.environ["FLANNELPY_STATE_DIR"], flush=True)
os.fork()
time.sleep(1000)
"""


@pytest.fixture(autouse=True)
def no_containers_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "lab" in request.fixturenames:
        for host in request.getfixturevalue("lab").hosts:
            host.remove_containers()


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "flannelpy"
    path.write_text(STAND_IN.format(python=sys.executable, socket=PLUGIN_SOCKET))
    path.chmod(0o755)
    monkeypatch.setattr(docker_host, "FLANNELPY", path)
    return path


def leftovers(run_id: str) -> list[str]:
    """Every trace of a lab on this machine."""
    prefix = f"lab-{run_id}-"
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if run_id in line]
    folders = [str(folder_of(run_id))] if folder_of(run_id).exists() else []
    commands_left = [command for pid in processes.all_pids() if run_id in (command := command_line(pid))]
    return [
        *map(str, NAMED.glob(f"{prefix}*")),
        *map(str, cgroups.groups_of(prefix)),
        *mounts,
        *folders,
        *commands_left,
    ]


def command_line(pid: int) -> str:
    try:
        return (processes.PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


# --- hosts


def test_a_container_runs_on_dockers_bridge(lab: Lab) -> None:
    for host in lab.hosts:
        assert host.docker("run", "--rm", "lab/busybox", "echo", "hello") == "hello"
        assert "iperf 3" in host.docker("run", "--rm", "lab/net", "iperf3", "--version")


def test_every_host_is_its_own_machine(lab: Lab) -> None:
    assert [host.run("hostname") for host in lab.hosts] == [host.name for host in lab.hosts]
    assert len({host.docker("info", "--format", "{{.ID}}") for host in lab.hosts}) == len(lab.hosts)
    assert lab.hosts[0].run("sysctl", "-n", "net.ipv4.ip_forward") == "1"


def test_containers_of_one_host_reach_each_other_by_name(lab: Lab) -> None:
    host = lab.hosts[0]
    host.docker("network", "create", "own")
    host.run_container("one", "--network", "own")
    host.run_container("two", "--network", "own")
    assert host.container_pings("one", "two")
    assert host.address_of("one", "own") in host.container_exec("one", "ip", "addr")
    host.remove_containers()
    host.docker("network", "rm", "own")


def test_hosts_reach_each_other(lab: Lab) -> None:
    one, two = lab.hosts
    assert one.pings(two.address)
    assert two.pings(one.address6)


def test_both_hosts_see_consul(lab: Lab) -> None:
    for host in lab.hosts:
        url = f"http://{lab.consul.servers[0].address}:8500/v1/status/leader"
        assert host.http(url) == (200, f'"{lab.consul.servers[0].address}:8300"')


def test_a_cut_cable_can_be_mended(lab: Lab) -> None:
    one, two = lab.hosts
    one.cut()
    assert not two.pings(one.address, tries=1)
    one.mend()
    assert two.pings(one.address)
    assert two.pings(one.address6)


def test_a_partition_leaves_other_paths_alone(lab: Lab) -> None:
    one, two = lab.hosts
    lab.partition([one.number], [lab.consul.servers[0].number])
    assert not one.pings(lab.consul.servers[0].address, tries=1)
    assert one.pings(two.address)
    lab.heal()
    assert one.pings(lab.consul.servers[0].address)


def test_a_path_can_lose_packets(lab: Lab) -> None:
    one, two = lab.hosts
    lab.switch.lose(one.number, 100)
    assert not two.pings(one.address, tries=1)
    lab.heal()
    assert two.pings(one.address)


def test_a_container_survives_the_death_of_dockerd(lab: Lab) -> None:
    host = lab.hosts[0]
    host.run_container("survivor")
    pid = host.docker("inspect", "--format", "{{.State.Pid}}", "survivor")
    host.kill_dockerd()
    assert not host.engine_answers()
    assert host.run("cat", f"/proc/{pid}/comm") == "sleep"
    assert host.runs("containerd")
    host.start_dockerd()
    assert host.docker_ok("start", "survivor")


def test_dockerd_stops_and_starts_in_order(lab: Lab) -> None:
    host = lab.hosts[0]
    host.stop_dockerd()
    assert not host.runs("dockerd")
    host.start_dockerd()
    assert host.docker("run", "--rm", "lab/busybox", "echo", "again") == "again"


def test_a_reboot_keeps_the_disk_and_nothing_else(lab: Lab) -> None:
    host, other = lab.hosts
    host.run_container("always", "--restart", "always")
    host.run("ip", "link", "add", "stale", "type", "bridge")
    host.run("iptables", "-N", "STALE")
    host.run("touch", "/run/stale", "/etc/kept")
    host.reboot()
    assert "stale" not in host.run("ip", "-br", "link")
    assert "STALE" not in host.run("iptables-save")
    assert not host.path("/run/stale").exists()
    assert host.path("/etc/kept").exists()
    assert not Path("/etc/kept").exists()
    assert host.docker("inspect", "--format", "{{.State.Running}}", "always") == "true"
    assert other.pings(host.address)


def test_a_dead_host_answers_nothing(lab: Lab) -> None:
    host, other = lab.hosts
    host.run_container("victim")
    host.die()
    assert not other.pings(host.address, tries=1)
    assert not host.engine_answers()
    host.reboot()
    assert other.pings(host.address)
    assert host.docker("inspect", "--format", "{{.State.Running}}", "victim") == "false"


def test_a_snapshot_shows_what_is_left_behind(lab: Lab) -> None:
    host = lab.hosts[0]
    before = host.snapshot()
    host.docker("network", "create", "--subnet", "192.168.77.0/24", "left")
    host.run_container("left", "--network", "left")
    assert "+ 192.168.77.0/24 dev br-" in differences(before, host.snapshot())
    host.remove_containers()
    host.docker("network", "rm", "left")
    assert differences(before, host.snapshot()) == ""


def test_a_failed_docker_command_tells_why(lab: Lab) -> None:
    with pytest.raises(CommandFailed, match=r"(?i)no such network|not found"):
        lab.hosts[0].docker("network", "inspect", "nowhere")
    assert "nowhere" in lab.hosts[0].docker_refused("network", "rm", "nowhere")


# --- flannelpy, which a stand-in plays


@pytest.mark.usefixtures("stand_in")
def test_flannelpy_starts_before_dockerd(lab: Lab) -> None:
    host = lab.hosts[1]
    host.reboot("flannelpy", "dockerd")
    assert f"['serve'] {host.name} {host.directory}/flannelpy" in host.flannelpy_log()
    host.reboot(clean=True)
    assert host.runs("flannelpy")
    assert host.runs("dockerd")
    host.stop_flannelpy()
    host.flannelpy = None


@pytest.mark.usefixtures("stand_in")
def test_killing_flannelpy_leaves_no_worker(lab: Lab) -> None:
    host = lab.hosts[1]
    host.start_flannelpy({"FLANNELPY_STORE": lab.consul.url})
    assert host.flannelpy is not None
    wait_until("the worker", lambda: len(family(host)) == 3, timeout=5)  # nsenter, master, worker
    host.flannelpy.pause()
    assert host.runs("flannelpy")
    host.kill_flannelpy()
    assert not family(host)
    host.start_flannelpy({})
    host.stop_flannelpy()
    host.kill_flannelpy()
    host.flannelpy = None


def family(host: DockerHost) -> set[int]:
    return host.flannelpy.family() if host.flannelpy else set()


def test_a_flannelpy_that_ends_at_once_is_reported_with_its_log(lab: Lab, stand_in: Path) -> None:
    stand_in.write_text("#!/bin/sh\necho FLANNELPY_POOLS is wrong\nexit 2\n")
    with pytest.raises(RuntimeError, match=r"(?s)ended while it started.*FLANNELPY_POOLS is wrong"):
        lab.hosts[1].start_flannelpy()
    lab.hosts[1].flannelpy = None


# --- the end


def test_nothing_is_left_of_a_lab() -> None:
    with Lab(hosts=1, mtu=1400) as lab:
        host = lab.hosts[0]
        host.run_container("endless")
        assert " mtu 1400 " in host.run("ip", "link", "show", "eth0")
        assert len(leftovers(lab.run_id)) > 5
    assert leftovers(lab.run_id) == []


def test_nothing_is_left_of_a_lab_that_failed_half_way() -> None:
    lab = Lab(hosts=1, dockerd_config={"no-such-option": True})
    with pytest.raises(RuntimeError, match=r"(?s)dockerd of .* ended while it started.*no-such-option"):
        lab.__enter__()
    assert leftovers(lab.run_id) == []


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_lab_whose_process_is_told_to_end(signal_number: signal.Signals) -> None:
    program = (
        "import time; from tests.lab.lab import Lab\n"
        "with Lab(hosts=1, servers=0) as lab: print(lab.run_id, flush=True); time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        run_id = other.stdout.readline().strip()
        assert len(leftovers(run_id)) > 5
        assert run_id not in Lab.sweep()
        os.kill(other.pid, signal_number)
        other.wait(30)
    if signal_number == signal.SIGKILL:
        Lab.sweep()  # or a lab of another process did it before
    assert leftovers(run_id) == []


def test_a_command_that_does_not_end_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(CommandFailed, match=r"(?s)did not end within 0.3 s.*started"):
        commands.run("sh", "-c", "echo started; sleep 100 & sleep 100", timeout=0.3)
    assert time.monotonic() - began < 5
