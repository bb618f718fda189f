"""The command line: flags like the settings, and one sentence on stderr when it cannot start."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from operations.model import LeaseState, Status, StoreState
from plugin import cli, privileges
from plugin.settings import Settings

MISSING = privileges.missing
ROOT = Path(__file__).parents[2]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that a start got as far as."""
    seen: list[Settings] = []
    monkeypatch.setattr(cli, "_serve", seen.append)
    monkeypatch.setattr("plugin.privileges.missing", lambda: "")
    monkeypatch.setattr("plugin.log.setup", lambda level: None)
    return seen


def run(*arguments: str, env: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli.main, list(arguments), env=dict(env or {}))


def test_every_setting_is_a_flag_with_its_variable_and_default() -> None:
    shown = " ".join(run("serve", "--help").output.split())
    for f in fields(Settings):
        assert f"--{f.name.replace('_', '-')} VALUE" in shown
        assert f.metadata["env"] in shown
        assert f.metadata["default"] in shown


def test_a_flag_wins_over_its_variable(started: list[Settings], tmp_path: Path) -> None:
    env = {"FLANNELPY_BLOCK": "24", "FLANNELPY_BACKEND": "host-gw", "FLANNELPY_STATE_DIR": str(tmp_path / "env")}
    assert run("serve", "--block", "28", "--host", "a", "--state-dir", str(tmp_path / "flag"), env=env).exit_code == 0
    assert started == [Settings(block=28, backend="host-gw", host="a", state_dir=tmp_path / "flag")]
    assert (tmp_path / "flag" / "host").read_text() == "a\n"


@pytest.mark.parametrize(
    ("arguments", "env", "sentence"),
    [
        (("--block", "99"), {}, "Error: FLANNELPY_BLOCK is '99': it must be a number from 16 to 30\n"),
        (
            (),
            {"FLANNELPY_LOG": "loud"},
            "Error: FLANNELPY_LOG is 'loud': it must be one of debug, info, warning, error\n",
        ),
        (
            ("--store", "consul://127.0.0.1:8500"),
            {"CONSUL_HTTP_TOKEN_FILE": "/nowhere"},
            "Error: CONSUL_HTTP_TOKEN_FILE=/nowhere: there is no such file\n",
        ),
    ],
)
def test_a_wrong_setting_is_one_sentence_and_exit_2(
    started: list[Settings], arguments: tuple[str, ...], env: Mapping[str, str], sentence: str
) -> None:
    done = run("serve", *arguments, env=env)
    assert (done.exit_code, done.stderr, done.stdout, started) == (2, sentence, "", [])


def test_it_needs_root(started: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.privileges.missing", MISSING)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    done = run("serve")
    assert (done.exit_code, started) == (1, [])
    assert done.stderr == "Error: flannelpy serve needs root: it changes this host's interfaces and routes\n"


def test_version() -> None:
    assert run("--version").output.startswith("flannelpy, version ")


STATUS = Status("h1", "1.0", StoreState("sqlite", None, ""), LeaseState(60.0, 1.0, ""), None, 0, 0, 0, 0, 1, (), (), ())
SLOW = {"flask", "gunicorn", "pyroute2", "docker", "consul", "requests", "dns", "sqlite3", "importlib.metadata"}
CODE = """
import contextlib, json, sys
from plugin import cli, client
status, slow, *command = sys.argv[1:]
client.ask = lambda *_, **__: {"Status": json.loads(status)}
with contextlib.suppress(SystemExit):
    cli.main(command)
print(*(set(slow.split(",")) & set(sys.modules)), file=sys.stderr, end="")
"""


@pytest.mark.parametrize(
    ("command", "slow"),
    [(("--help",), {*SLOW, "rich"}), (("status",), SLOW), (("status", "--json"), {*SLOW, "rich"})],
    ids=["help", "status", "status as JSON"],
)
def test_what_is_typed_often_imports_little(command: tuple[str, ...], slow: set[str]) -> None:
    """It takes a tenth of a second so. Modules and not milliseconds, which say nothing on a busy machine."""
    arguments = (json.dumps(asdict(STATUS)), ",".join(slow), *command)
    done = subprocess.run([sys.executable, "-c", CODE, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
