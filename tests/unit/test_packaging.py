"""That everything gets into what is shipped, and that nothing is written twice."""

import json
import re
import tomllib
from pathlib import Path

from plugin import privileges
from tests.lab.managed import base_image

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: list[str] = PROJECT["tool"]["setuptools"]["packages"]


def test_every_package_is_in_the_wheel() -> None:
    skipped = {"tests", "build", "dist"}
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ROOT.iterdir()
        if top.is_dir() and not top.name.startswith(".") and top.name not in skipped
        for path in top.rglob("__init__.py")
    }
    assert set(PACKAGES) == found


def test_every_package_is_in_the_image() -> None:
    """The Dockerfile copies all that .dockerignore leaves."""
    assert re.search(r"^COPY \. \.$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    ignored = {line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"}
    assert not ignored & {*PACKAGES, "pyproject.toml", PROJECT["project"]["readme"], "*", "**"}


def test_the_plugin_starts_what_the_image_starts() -> None:
    lines = re.findall(r"^(?:ENTRYPOINT|CMD) (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    command = [word for line in lines for word in json.loads(line)]
    assert json.loads((ROOT / "plugin.json").read_text())["entrypoint"] == command


def test_the_image_begins_with_one_that_stays_the_same() -> None:
    assert re.fullmatch(r"debian:[a-z]+-\d{8}-slim", base_image())


def test_actions_are_named_by_commit() -> None:
    used = [
        action
        for workflow in (ROOT / ".github/workflows").glob("*.yml")
        for action in re.findall(r"uses: (.*)", workflow.read_text())
    ]
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", action)] == []


def test_rights_that_are_missing_are_named() -> None:
    assert privileges.lacking("CapEff:\t0000000000003000\n") == []
    assert privileges.lacking("CapEff:\t00000000a80425fb\n") == ["CAP_NET_ADMIN"]
    assert privileges.lacking("CapEff:\t0000000000000000\n") == ["CAP_NET_ADMIN", "CAP_NET_RAW"]
