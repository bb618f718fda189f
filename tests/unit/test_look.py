"""What the commands say, and end with, where no answer can be had or understood; that they say that they wait."""

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from operations.model import LeaseState, Status, StoreState
from operations.version import version
from plugin import cli, client, progress, tables
from plugin.flags import ALL
from store.codec import BadRecord

OTHER = f"Error: this command is of flannelpy {version()}, and the one that runs is of another version: restart it\n"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments))


def answers(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    monkeypatch.setattr(client, "ask", lambda path, call, **arguments: answer)


@pytest.mark.parametrize("command", [("status",), ("hosts",), ("gc",), ("leave",), ("doctor",), ("trace", "a", "b")])
def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
    def denied(self: client._Connection) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(client._Connection, "connect", denied)
    done = run(*command)
    assert (done.exit_code, done.stderr) == (3, "Error: only root may ask flannelpy: use sudo\n")


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (("status",), {"Status": {"host": "h1"}}),
        (("status", "--json"), {"Status": {"host": "h1"}}),
        (("hosts",), {}),
        (("networks",), {"Networks": [{"name": "web", "space": "", "pool": "10.0.0.0/8", "more_pools": None}]}),
        (("addresses",), {"Addresses": [{"address": "10.0.0.1"}]}),
        (("doctor",), {"Questions": "{}"}),
        (("trace", "a", "b"), {"Doors": '{"doors": 1}'}),
    ],
)
def test_an_answer_of_another_version_is_told(
    monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], answer: Any
) -> None:
    answers(monkeypatch, answer)
    done = run(*command)
    assert (done.exit_code, done.stderr) == (3, OTHER)


@pytest.mark.parametrize("command", [("doctor",), ("gc",), ("leave",)])
def test_a_call_that_the_running_one_does_not_know_is_told_alike(
    monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    def ask(path: Path, call: str) -> None:
        raise client.UnknownCall(call)

    monkeypatch.setattr(client, "ask", ask)
    done = run(*command)
    assert (done.exit_code, done.stderr) == (3, OTHER)


def test_nobody_there_is_another_sentence(tmp_path: Path) -> None:
    done = run("status", "--socket", str(tmp_path / "none.sock"))
    assert done.exit_code == 3
    where = tmp_path / "none.sock"
    assert done.stderr == (
        f"Error: flannelpy does not answer on {where} (No such file or directory): "
        "start it, or name its socket with --socket\n"
    )


def test_who_asks_a_running_flannelpy_has_the_flag_that_matters_and_no_other() -> None:
    for name in ("status", "hosts", "networks", "addresses", "trace", "doctor", "gc"):
        settings = [param.name for param in cli.main.commands[name].params if param.name in ALL]
        assert [each for each in settings if each != "address"] == ["socket"], name


def test_the_list_of_commands_says_what_each_does_in_one_line() -> None:
    listed = run("--help").stdout
    assert len(re.findall(r"^  [a-z]+  .*[^.][.]$", listed, re.MULTILINE)) == len(cli.main.commands)


@pytest.mark.parametrize(("status", "exit_code"), [(503, 3), (500, 1), (409, 1)])
def test_a_store_that_could_not_be_asked_is_no_finding(
    monkeypatch: pytest.MonkeyPatch, status: int, exit_code: int
) -> None:
    answered = SimpleNamespace(status=status, read=lambda: b'{"Err": "Consul is away"}')
    monkeypatch.setattr(client._Connection, "request", lambda *args, **body: None)
    monkeypatch.setattr(client._Connection, "getresponse", lambda self: answered)
    for command in (("hosts",), ("leave",), ("gc",), ("doctor",)):
        done = run(*command)
        assert (done.exit_code, done.stderr, done.stdout) == (exit_code, "Error: Consul is away\n", "")


def status(problems: list[str]) -> Any:
    lease, store = LeaseState(60.0, 1.0, ""), StoreState("sqlite", None, "")
    found = Status("h1", version(), store, lease, None, 0, 0, 0, 0, 1, (), (), tuple(problems))
    return json.loads(json.dumps(asdict(found)))


@pytest.mark.parametrize("fault", [KeyError("pool"), TypeError("no"), BadRecord("no")])
def test_what_is_wrong_with_this_one_is_not_called_another_version(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def show(console: object, answer: object) -> None:
        raise fault

    answers(monkeypatch, {"Status": status([])})
    monkeypatch.setattr(tables, "show_status", show)
    assert run("status").exception is fault


def test_a_finding_is_1_and_a_clean_answer_0(monkeypatch: pytest.MonkeyPatch) -> None:
    for problems, exit_code in ((["the store has been away for 9 s"], 1), ([], 0)):
        answers(monkeypatch, {"Status": status(problems)})
        assert run("status", "--json").exit_code == exit_code


@pytest.mark.parametrize(
    ("command", "answer", "shown", "told"),
    [
        (("leave",), {"Host": "h1"}, {"host": "h1"}, "host h1 holds nothing any more\n"),
        (
            ("gc",),
            {"Found": ["address 10.0.0.1"], "Freed": 3},
            {"found": ["address 10.0.0.1"], "freed": 3},
            "freed: address 10.0.0.1\n1 now, 3 freed since flannelpy started\n",
        ),
    ],
)
def test_what_a_command_did_in_words_and_as_json(
    monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], answer: Any, shown: Any, told: str
) -> None:
    answers(monkeypatch, answer)
    assert run(*command).output == told
    assert json.loads(run(*command, "--json").output) == shown


def test_every_command_but_serve_has_json() -> None:
    options = {name: {option.name for option in command.params} for name, command in cli.main.commands.items()}
    assert [name for name, known in options.items() if "as_json" not in known] == ["serve"]


@pytest.mark.parametrize("terminal", [True, False])
def test_who_waits_at_a_terminal_sees_for_what(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with progress.waiting("watching [h1]"):
        pass
    seen = capsys.readouterr()
    assert (seen.out, "watching [h1] ..." in seen.err) == ("", terminal)
