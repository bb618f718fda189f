"""Which settings a command has: its flags', else the environment's, else the service's of this host."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from plugin import cli
from plugin.flags import read_service_settings, read_settings

KEPT = "FLANNELPY_STORE='consul://192.0.2.1:8500'\nFLANNELPY_CLUSTER=kept\nFLANNELPY_BLOCK=27\nCONSUL_HTTP_TOKEN=kept\n"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLANNELPY_STORE", "FLANNELPY_CLUSTER", "FLANNELPY_BLOCK", "CONSUL_HTTP_TOKEN"):
        monkeypatch.setenv(name, "")  # so that what a command puts there is undone, too
        monkeypatch.delenv(name)


def test_the_settings_of_the_service_are_below_the_environment_and_that_below_flags(
    service_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service_environment.write_text(KEPT)
    monkeypatch.setenv("FLANNELPY_CLUSTER", "exported")
    monkeypatch.setenv("FLANNELPY_BLOCK", "28")
    settings = read_service_settings({"block": "29", "cluster": None})
    assert (str(settings.store), settings.cluster, settings.block) == ("consul://192.0.2.1:8500", "exported", 29)


@pytest.mark.parametrize(("exported", "used"), [(None, "kept"), ("exported", "exported")])
def test_the_services_token_is_the_commands_unless_another_is_exported(
    service_environment: Path, monkeypatch: pytest.MonkeyPatch, exported: str | None, used: str
) -> None:
    service_environment.write_text(KEPT)
    if exported is not None:
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", exported)
    read_service_settings({})
    assert os.environ["CONSUL_HTTP_TOKEN"] == used


def test_a_file_that_is_missing_or_cannot_be_read_says_nothing(service_environment: Path) -> None:
    assert read_service_settings({}) == read_settings({})
    service_environment.mkdir()
    assert read_service_settings({}) == read_settings({})


def test_serve_has_its_environment_alone(service_environment: Path) -> None:
    service_environment.write_text(KEPT)
    assert read_settings({}).cluster == "flannelpy"


def test_a_wrong_line_of_it_ends_a_command_with_a_sentence(service_environment: Path) -> None:
    service_environment.write_text("FLANNELPY_BLOCK=99\n")
    done = CliRunner().invoke(cli.main, ["status"])
    assert (done.exit_code, done.stderr) == (
        2,
        "Error: FLANNELPY_BLOCK is '99': it must be a number from 16 to 30\n",
    )
