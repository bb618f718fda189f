"""The command line: flags like the settings, and one sentence on stderr when it cannot start."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from plugin import cli, privileges
from plugin.settings import Settings

MISSING = privileges.missing


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


def test_help_imports_neither_flask_nor_gunicorn() -> None:
    slow = {"flask", "gunicorn", "pyroute2", "docker", "consul"}
    code = f"import sys, plugin.cli; sys.exit(bool({slow} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
