"""`flannelpy install` and `uninstall`: what they would do, and that doing it leaves nothing to do."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import click
import pytest
from click.testing import CliRunner, Result

from cluster.dockerd import EngineUnavailable
from cluster.engine import ListedNetwork, read_shape
from driver.errors import BadRequest
from plugin import admin, cli, client, daemon_json, installer
from plugin.daemon_json import with_dns, without_dns
from plugin.flags import WrongSettings
from plugin.install import (
    DAEMON_JSON,
    ENVIRONMENT,
    HIDDEN,
    REMOVE_HERE,
    SERVICE,
    STAND_IN,
    STAND_IN_UNIT,
    UNIT,
    CannotInstall,
    Seen,
    Wanted,
    install_steps,
    merged,
    uninstall_steps,
    variables,
)
from plugin.install import PROGRAM as PROGRAM_IN_UNITS
from plugin.parts import Parts
from plugin.settings import Settings
from plugin.steps import Write
from store.credentials import VARIABLES

ROOT = Path(__file__).parents[2]
TEXT = "[Service]\nExecStart=/opt/flannelpy/bin/flannelpy serve\n"
STAND_IN_TEXT = "[Service]\nExecStart=/opt/flannelpy/bin/flannelpy-stand-in\n"
STATE = "/var/lib/flannelpy"
PROGRAM = "/opt/f/bin/flannelpy"
CONSUL = {"FLANNELPY_STORE": "consul://127.0.0.1:8500"}


def wanted(settings: Mapping[str, str] = CONSUL, dns: Sequence[str] = (), read: Sequence[str] = (PROGRAM,)) -> Wanted:
    return Wanted(TEXT, STAND_IN_TEXT, PROGRAM, read, STATE, settings, dns)


UNIT_HERE = "[Service]\nExecStart=/opt/f/bin/flannelpy serve\n"
STAND_IN_HERE = "[Service]\nExecStart=/opt/f/bin/flannelpy-stand-in\n"
ENVIRONMENT_HERE = "FLANNELPY_STORE=consul://127.0.0.1:8500\n"
INSTALLED = Seen(unit=UNIT_HERE, stand_in=STAND_IN_HERE, environment=ENVIRONMENT_HERE)


def test_a_first_installation_reads_as_an_operator_would_type_it() -> None:
    assert [str(step) for step in install_steps(Seen(), wanted())] == [
        "install -d -m 0700 /var/lib/flannelpy",
        f"install -m 0600 /dev/stdin /etc/flannelpy.env <<'END'\n{ENVIRONMENT_HERE}END",
        f"install -m 0644 /dev/stdin /etc/systemd/system/flannelpy.service <<'END'\n{UNIT_HERE}END",
        f"install -m 0644 /dev/stdin /etc/systemd/system/flannelpy-stand-in.service <<'END'\n{STAND_IN_HERE}END",
        "systemctl daemon-reload",
        "systemctl enable flannelpy-stand-in.service",
        "systemctl enable --now flannelpy.service",
    ]


def test_a_second_one_only_sees_to_it_that_the_service_runs() -> None:
    assert [str(step) for step in install_steps(INSTALLED, wanted())] == [
        "install -d -m 0700 /var/lib/flannelpy",
        "systemctl enable flannelpy-stand-in.service",
        "systemctl enable --now flannelpy.service",
    ]


def test_another_setting_needs_a_restart() -> None:
    assert [str(step).splitlines()[0] for step in install_steps(INSTALLED, wanted({"FLANNELPY_LOG": "debug"}))] == [
        "install -d -m 0700 /var/lib/flannelpy",
        "install -m 0600 /dev/stdin /etc/flannelpy.env <<'END'",
        "systemctl enable flannelpy-stand-in.service",
        "systemctl enable --now flannelpy.service",
        "systemctl restart flannelpy.service",
    ]


def test_a_service_that_was_started_before_the_files_were_written_is_restarted() -> None:
    """One that was ended before the restart left no difference behind."""
    seen = replace(INSTALLED, outdated=True)
    assert [str(step) for step in install_steps(seen, wanted())] == [
        "install -d -m 0700 /var/lib/flannelpy",
        "systemctl enable flannelpy-stand-in.service",
        "systemctl enable --now flannelpy.service",
        "systemctl restart flannelpy.service",
    ]
    assert [str(step) for step in install_steps(seen, wanted({"FLANNELPY_LOG": "debug"}))].count(
        "systemctl restart flannelpy.service"
    ) == 1


@pytest.mark.parametrize(
    ("state", "started", "written", "outdated"),
    [("active", 100, 99, False), ("active", 100, 101, True), ("activating", 100, 101, True), ("inactive", 0, 9, False)],
)
def test_when_it_was_started_is_asked_of_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, started: int, written: int, outdated: bool
) -> None:
    """Seconds since the boot; the file's are the clock's."""
    path, systemctl = tmp_path / "env", tmp_path / "systemctl"
    path.touch()
    boot = time.time() - time.monotonic()
    os.utime(path, (boot + written, boot + written))
    systemctl.write_text(f"#!/bin/sh\necho ActiveState={state}\necho ExecMainStartTimestampMonotonic={started}000000\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("plugin.install.UNIT", str(tmp_path / "none"))
    monkeypatch.setattr("plugin.install.ENVIRONMENT", str(path))
    assert installer.look(Path("/"), str(tmp_path)).outdated is outdated
    assert not installer.look(tmp_path, "/state").outdated  # below another root nothing runs


def test_other_lines_of_the_environment_file_stay() -> None:
    text = "# ours\nFLANNELPY_LOG=info\nCONSUL_HTTP_TOKEN=secret\nFLANNELPY_BLOCK = 26\n"
    assert merged(text, {"FLANNELPY_LOG": "debug", "FLANNELPY_BLOCK": "26"}) == (
        "# ours\nCONSUL_HTTP_TOKEN=secret\nFLANNELPY_BLOCK = 26\nFLANNELPY_LOG=debug\n"
    )
    assert merged(text, {}) == text
    assert variables(text) == {"FLANNELPY_LOG": "info", "CONSUL_HTTP_TOKEN": "secret", "FLANNELPY_BLOCK": "26"}


def test_quotes_that_systemd_takes_off_are_no_part_of_a_value() -> None:
    text = """A="x y"\nB='x'\nC="x'\nD="\nE=""\n"""
    assert variables(text) == {"A": "x y", "B": "x", "C": "\"x'", "D": '"', "E": ""}


def test_a_token_is_written_and_not_shown() -> None:
    text = "CONSUL_HTTP_TOKEN=secret\n CONSUL_HTTP_TOKEN = secret\nCONSUL_HTTP_TOKEN_FILE=/etc/token\n"
    step = Write(ENVIRONMENT, text, 0o600)
    assert "secret" not in str(step)
    assert "CONSUL_HTTP_TOKEN_FILE=/etc/token" in str(step)


@pytest.mark.parametrize("path", ["/root/.pyenv/bin/python3", "/home/me/v/bin/flannelpy", "/tmp/v", "/root"])
def test_a_program_or_a_python_that_the_service_could_not_see_is_refused(path: str) -> None:
    said = f"^this flannelpy is read from {path}, which the service cannot see: make a virtual environment with `"
    with pytest.raises(CannotInstall, match=said):
        install_steps(Seen(), wanted(read=(PROGRAM, path)))


def test_a_file_that_a_setting_names_and_the_service_could_not_see_is_refused() -> None:
    seen = Seen(environment="CONSUL_HTTP_TOKEN_FILE=/root/token\n")
    with pytest.raises(CannotInstall, match=r"^CONSUL_HTTP_TOKEN_FILE is '/root/token', which the service cannot see"):
        install_steps(seen, wanted())
    assert install_steps(Seen(environment="CONSUL_HTTP_TOKEN_FILE=/rooted/token\n"), wanted())


def test_what_is_hidden_is_what_the_unit_hides() -> None:
    assert {"ProtectHome=yes", "PrivateTmp=yes"} <= {*installer.unit().splitlines()}
    assert HIDDEN == ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # by `man systemd.exec`


def test_a_link_to_a_python_counts_by_where_it_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link, python = tmp_path / "venv/bin/python", tmp_path / "home/python3"
    for path in (link, python):
        path.parent.mkdir(parents=True)
    python.touch()
    link.symlink_to(python)
    monkeypatch.setattr(sys, "executable", str(link))
    assert {str(link), str(python), sys.base_prefix, str(ROOT / "plugin/installer.py")} <= {*installer.read_from()}


# daemon.json


def dns_after(text: str, nameservers: tuple[str, ...] = ("192.0.2.1",)) -> list[Write]:
    steps = install_steps(Seen(daemon_json=text, nameservers=nameservers), wanted(dns=["169.254.53.53"]))
    return [step for step in steps if isinstance(step, Write) and step.path not in (ENVIRONMENT, UNIT, STAND_IN_UNIT)]


@pytest.mark.parametrize(
    ("text", "dns", "added"),
    [
        ("", ["169.254.53.53", "192.0.2.1"], ["169.254.53.53", "192.0.2.1"]),
        ('{"dns": []}', ["169.254.53.53", "192.0.2.1"], ["169.254.53.53", "192.0.2.1"]),
        ('{"dns": ["192.0.2.7"]}', ["169.254.53.53", "192.0.2.7"], ["169.254.53.53"]),
        ('{"dns": ["192.0.2.7", "169.254.53.53"]}', ["169.254.53.53", "192.0.2.7"], []),
    ],
)
def test_the_address_comes_first_and_the_other_servers_stay(text: str, dns: list[str], added: list[str]) -> None:
    record, config = dns_after(text)
    assert json.loads(config.text)["dns"] == dns
    assert json.loads(record.text) == added
    assert config.mode is None


def test_the_addresses_of_both_families_come_first_in_their_order() -> None:
    both = ["169.254.53.53", "fda9:fe35:35::53"]
    text = with_dns('{"dns": ["192.0.2.7", "169.254.53.53"]}', both, [])
    assert json.loads(text) == {"dns": [*both, "192.0.2.7"]}
    assert json.loads(without_dns(text, both)) == {"dns": ["192.0.2.7"]}


def test_other_keys_of_daemon_json_stay_in_their_order() -> None:
    text = '{"log-driver": "journald", "dns": ["192.0.2.7"], "mtu": 1400}'
    _, config = dns_after(text)
    assert list(json.loads(config.text).items()) == [
        ("log-driver", "journald"),
        ("dns", ["169.254.53.53", "192.0.2.7"]),
        ("mtu", 1400),
    ]


def test_daemon_json_that_is_right_already_is_not_written() -> None:
    assert dns_after('{"dns":["169.254.53.53","192.0.2.7"]}') == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{'dns': []}", "it is not valid JSON"),
        ("[]", "it holds no JSON object"),
        ('{"dns": "192.0.2.7"}', 'its dns is "192.0.2.7", and must be a list'),
    ],
)
def test_a_daemon_json_that_docker_could_not_read_is_refused(text: str, reason: str) -> None:
    with pytest.raises(CannotInstall, match=f"^{DAEMON_JSON} cannot be changed: {reason}"):
        dns_after(text)


def test_containers_are_not_left_with_our_resolver_alone() -> None:
    with pytest.raises(
        CannotInstall, match="it has no dns entry, and this host uses no DNS server that containers can"
    ):
        dns_after("{}", ())


@pytest.mark.parametrize(
    "server",
    [
        *("fe80::1%eth0", "fe80::1%2", "2001:db8::1%eth0", "fe80::1", "::", "::1", "ff02::fb"),
        *("0.0.0.0", "127.0.0.53", "224.0.0.251", "ns.example"),
    ],
)
def test_a_server_that_containers_cannot_ask_or_docker_cannot_read_is_left_out(server: str) -> None:
    """dockerd 20.10 does not even start: "fe80::1%eth0 is not an ip address"."""
    assert daemon_json.nameservers(f"nameserver {server}\nnameserver 192.0.2.1\n") == ["192.0.2.1"]
    with pytest.raises(CannotInstall, match="uses no DNS server that containers can reach"):
        dns_after("", tuple(daemon_json.nameservers(f"nameserver {server}\n")))


def test_a_clouds_link_local_server_stays() -> None:
    assert daemon_json.nameservers("nameserver 169.254.169.254\n") == ["169.254.169.254"]


@pytest.mark.parametrize(
    ("text", "record", "left"),
    [
        ('{"dns": ["169.254.53.53", "192.0.2.1"], "mtu": 1400}', '["169.254.53.53", "192.0.2.1"]', {"mtu": 1400}),
        ('{"dns": ["169.254.53.53", "192.0.2.7"]}', '["169.254.53.53"]', {"dns": ["192.0.2.7"]}),
    ],
)
def test_uninstall_takes_out_of_daemon_json_what_install_added(text: str, record: str, left: object) -> None:
    config, removal = uninstall_steps(Seen(daemon_json=text, dns_added=record), STATE)
    assert isinstance(config, Write)
    assert json.loads(config.text) == left
    assert str(removal) == "rm /var/lib/flannelpy/docker-dns"


def test_uninstall() -> None:
    assert [str(step) for step in uninstall_steps(INSTALLED, STATE)] == [
        "systemctl disable --now flannelpy.service",
        "rm /etc/systemd/system/flannelpy.service",
        "systemctl disable --now flannelpy-stand-in.service",
        "rm /etc/systemd/system/flannelpy-stand-in.service",
        "systemctl daemon-reload",
        "rm /etc/flannelpy.env",
    ]
    assert uninstall_steps(Seen(), STATE) == []


@dataclass
class Engine:
    """Stands for dockerd, with these networks: name, driver and IPAM driver."""

    has: list[tuple[str, str, str]]
    away: bool = False

    def listed(self) -> list[ListedNetwork]:
        if self.away:
            raise EngineUnavailable("no answer")
        shapes = [{"Name": name, "Driver": driver, "IPAM": {"Driver": ipam}} for name, driver, ipam in self.has]
        return [ListedNetwork("id", read_shape(shape)) for shape in shapes]


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        (
            Engine([("web", "flannelpy", "flannelpy"), ("lan", "macvlan", "flannelpy"), ("host", "host", "default")]),
            "Docker has networks of flannelpy's, lan, web: restart flannelpy with FLANNELPY_PROPAGATE=false, or all "
            "hosts lose them, then remove them with docker network rm",
        ),
        (Engine([], away=True), r"cannot tell whether Docker has flannelpy networks \(no answer\): start Docker"),
    ],
)
def test_uninstall_is_refused_while_docker_needs_it(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, sentence: str
) -> None:
    monkeypatch.setattr(installer, "Dockerd", lambda url: engine)
    with pytest.raises(CannotInstall, match=f"^{sentence}$"):
        installer.refuse_while_used(Settings())


def test_leaving_is_refused_with_the_same_procedure() -> None:
    """`docker network rm` alone would take the network from all hosts."""
    parts = SimpleNamespace(ipam=SimpleNamespace(held=lambda: {"10.240.0.0/18"}))
    with pytest.raises(BadRequest, match=f"^this host still has networks in 10.240.0.0/18: {REMOVE_HERE}, and then"):
        admin.leave(cast(Parts, parts))


def test_uninstall_minds_no_network_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer, "Dockerd", lambda url: Engine([("bridge", "bridge", "default")]))
    installer.refuse_while_used(Settings())


# done, below a root of its own


def run(root: Path, command: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli.main, [command, "--root", str(root), *arguments])


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(installer, "program", lambda: "/opt/elsewhere/bin/flannelpy")
    monkeypatch.setattr(installer, "read_from", lambda: ["/opt/elsewhere/bin/flannelpy"])
    resolv_conf, daemon = tmp_path / "etc/resolv.conf", tmp_path / DAEMON_JSON[1:]
    daemon.parent.mkdir(parents=True)
    resolv_conf.write_text("search example\nnameserver 127.0.0.53\nnameserver 192.0.2.53\n")
    daemon.write_text('{"mtu": 1400}')
    daemon.chmod(0o640)
    return tmp_path


@pytest.mark.skipif(shutil.which("systemctl") is None, reason="needs systemctl, which makes the links")
def test_install_again_and_uninstall_below_another_root(root: Path) -> None:
    daemon, units = root / DAEMON_JSON[1:], root / "etc/systemd/system"
    links = [units / "multi-user.target.wants" / SERVICE, units / "docker.service.wants" / STAND_IN]
    flags = ("--yes", "--store", "consul://127.0.0.1:8500", "--docker-dns", "169.254.53.53")
    done = run(root, "install", *flags)
    assert done.exit_code == 0, done.output
    assert "ExecStart=/opt/elsewhere/bin/flannelpy serve" in (root / UNIT[1:]).read_text()
    assert (root / ENVIRONMENT[1:]).read_text() == ENVIRONMENT_HERE
    assert (root / ENVIRONMENT[1:]).stat().st_mode & 0o777 == 0o600
    assert (root / STATE[1:]).stat().st_mode & 0o777 == 0o700
    assert json.loads(daemon.read_text()) == {"mtu": 1400, "dns": ["169.254.53.53", "192.0.2.53"]}
    assert daemon.stat().st_mode & 0o777 == 0o640
    assert all(link.is_symlink() for link in links)
    assert "ExecStart=/opt/elsewhere/bin/flannelpy-stand-in" in (root / STAND_IN_UNIT[1:]).read_text()
    assert "<<" not in run(root, "install", *flags).output  # no file is left to be written

    assert run(root, "uninstall", "--yes").exit_code == 0
    assert json.loads(daemon.read_text()) == {"mtu": 1400}
    assert [path for path in units.rglob("*") if not path.is_dir()] == []
    assert run(root, "uninstall").output == "There is nothing to do.\n"


def test_nothing_is_done_before_somebody_agrees(root: Path) -> None:
    assert "Do this? [y/N]" in run(root, "install").output
    assert run(root, "install", "--dry-run").exit_code == 0
    assert not (root / UNIT[1:]).exists()


def test_as_json_it_asks_nothing_and_says_what_was_done(root: Path) -> None:
    asked = run(root, "install", "--json")
    assert (asked.exit_code, asked.stdout) == (2, "")
    assert "--json does not ask: give --yes or --dry-run with it" in asked.stderr
    planned = json.loads(run(root, "install", "--json", "--dry-run", "--docker-dns", "169.254.53.53").output)
    assert planned["steps"][0] == "install -d -m 0700 /var/lib/flannelpy"
    assert (planned["done"], planned["restart_docker"]) == (False, True)
    assert json.loads(run(root, "uninstall", "--json", "--yes").output) == {
        "steps": [],
        "done": True,
        "restart_docker": False,
    }


def test_a_docker_that_cannot_be_asked_is_told_by_its_exit_code(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer, "refuse_without_systemd", lambda root: None)
    monkeypatch.setattr(installer, "Dockerd", lambda url: Engine([], away=True))
    done = CliRunner().invoke(cli.main, ["uninstall", "--dry-run"])
    assert (done.exit_code, done.stderr.startswith("Error: cannot tell whether Docker has")) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--block", "99"), "Error: FLANNELPY_BLOCK is '99': it must be a number from 16 to 30"),
        (
            ("--dns", "off", "--docker-dns", "169.254.53.53"),
            "Error: --docker-dns is 169.254.53.53, and FLANNELPY_DNS is off: the first must be of the second",
        ),
        (
            ("--dns", "169.254.1.1", "--docker-dns", "169.254.53.53"),
            "Error: --docker-dns is 169.254.53.53, and FLANNELPY_DNS is 169.254.1.1: the first must be of the second",
        ),
        (("--docker-dns", "here"), "Error: --docker-dns is 'here': it must be an IP address, or some with commas"),
    ],
)
def test_what_is_wrong_is_one_sentence(root: Path, arguments: tuple[str, ...], sentence: str) -> None:
    done = run(root, "install", "--yes", *arguments)
    assert done.exit_code in (1, 2)
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1
    assert not (root / UNIT[1:]).exists()


def test_a_wrong_line_in_the_environment_file_is_told(root: Path) -> None:
    (root / ENVIRONMENT[1:]).write_text("FLANNELPY_LOG=loud\n")
    assert "FLANNELPY_LOG is 'loud'" in run(root, "install", "--yes").stderr


def test_a_setting_that_only_the_shell_has_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLANNELPY_LEASE_TTL", "12h")
    said = "FLANNELPY_LEASE_TTL is '12h' in this shell, which no service sees: give --lease-ttl, or unset it"
    assert run(root, "install", "--dry-run").stderr == f"Error: {said}\n"
    assert run(root, "install", "--dry-run", "--lease-ttl", "12h").exit_code == 0
    (root / ENVIRONMENT[1:]).write_text("FLANNELPY_LEASE_TTL=12h\n")
    assert run(root, "install", "--dry-run").exit_code == 0


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_of_consuls_that_only_the_shell_has_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "secret")
    said = f"{name} is set in this shell, which no service sees: write it into /etc/flannelpy.env, or unset it"
    assert run(root, "install", "--dry-run").stderr == f"Error: {said}\n"
    (root / ENVIRONMENT[1:]).write_text(f"{name}=secret\n")
    assert run(root, "install", "--dry-run").exit_code == 0


def test_what_speaks_against_it_is_looked_at_again_once_somebody_agreed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine([])
    monkeypatch.setattr(installer, "refuse_without_systemd", lambda root: None)
    monkeypatch.setattr(installer, "Dockerd", lambda url: engine)
    monkeypatch.setattr(installer, "look", lambda *_: Seen(unit=UNIT_HERE))
    monkeypatch.setattr(installer, "do", lambda *_: pytest.fail("it was done"))
    monkeypatch.setattr(click, "confirm", lambda *_, **__: engine.has.append(("web", "flannelpy", "flannelpy")))
    done = CliRunner().invoke(cli.main, ["uninstall"])
    assert (done.exit_code, "Docker has networks of flannelpy's, web" in done.stderr) == (1, True)


def test_a_service_beside_another_flannelpy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, str]] = []
    monkeypatch.setattr(client, "ask", lambda path, call: asked.append((path, call)))
    with pytest.raises(CannotInstall, match=r"another flannelpy answers on /run/docker/plugins/flannelpy\.sock"):
        installer.refuse_beside_another(Settings())
    assert asked == [(Settings().socket[0], "/Plugin.Activate")]


def test_where_nobody_answers_it_is_not(tmp_path: Path) -> None:
    installer.refuse_beside_another(Settings(socket=(tmp_path / "none.sock",)))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_in_the_units(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in (SERVICE, STAND_IN)]
    for path in paths:
        path.write_text(re.sub("^ExecStart=.*", "ExecStart=/bin/true", installer.unit(path.name), flags=re.MULTILINE))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_service_that_failed_is_stood_in_for_by_a_command_that_is_installed() -> None:
    assert f"OnFailure={STAND_IN}" in installer.unit(SERVICE).splitlines()
    program = Path(PROGRAM_IN_UNITS).with_name("flannelpy-stand-in")
    assert f"ExecStart={program}" in installer.unit(STAND_IN).splitlines()
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert program.name in scripts


def test_a_wrong_setting_ends_the_service_and_nothing_else_does() -> None:
    lines = installer.unit().splitlines()
    assert {"Restart=always", f"RestartPreventExitStatus={WrongSettings.exit_code}", "StartLimitIntervalSec=0"} <= {
        *lines
    }
