"""The documentation is true to the code: no option, label, test or page that is not there, and none left out."""

import re
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from click.testing import CliRunner

from cluster.services import LABEL
from driver import options
from driver.backends import BACKENDS
from driver.errors import BadRequest
from ipam import options as ipam_options
from operations.model import Address, Diagnosis, Host, Network, Status, TraceAnswer
from plugin.cli import main
from plugin.settings import Settings, SettingsError
from tests.systemd import readme

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OPTIONS = (ROOT / "docs/options.md").read_text()
MADE_BY_BENCH = "RESULTS.md"
ROWS = {cells[1].strip(): cells[2].strip() for cells in (row.split("|") for row in OPTIONS.splitlines()) if cells[2:]}


def test_the_table_has_each_setting_with_its_default() -> None:
    said = {name.strip("`"): default.strip("`") for name, default in ROWS.items() if name.startswith("`FLANNELPY_")}
    known = {field.metadata["env"]: field.metadata["default"] for field in fields(Settings)}
    assert set(said) == set(known)
    in_words = {name: default for name, default in known.items() if not default}
    assert {name: default for name, default in said.items() if name not in in_words} == {
        name: default for name, default in known.items() if name not in in_words
    }


def test_the_table_has_each_option_of_a_network() -> None:
    for name in options.KNOWN:
        assert f"`-o {name}=`" in ROWS or f"`{name}`" in OPTIONS, name
    said = re.findall(r"^\| `-o (\S+)=`", OPTIONS, re.MULTILINE)
    assert set(said) <= set(options.KNOWN)
    assert {name for name in ROWS if name.startswith("`--ipam-opt")} == {
        f"`--ipam-opt {name}=`" for name in ipam_options.KNOWN
    }
    for name in (*BACKENDS, *options.GATEWAYS, LABEL):
        assert f"`{name}" in OPTIONS, name


def test_a_number_is_documented_with_its_range() -> None:
    """The one that is told to whoever gives another."""
    refusals = dict[str, str]()
    for name in (field.metadata["env"] for field in fields(Settings)):
        with pytest.raises(SettingsError) as wrong:
            Settings.read({name: "/.."})
        refusals[name] = str(wrong.value)
    for name in options.KNOWN:
        with pytest.raises(BadRequest) as refused:
            options.parse({name: "0"}, has_ipv6=False)
        refusals[name] = str(refused.value)
    ranges = {name: found[1] for name, text in refusals.items() if (found := re.search(r"from (\S+ to [^\s,]+)", text))}
    assert {"FLANNELPY_BLOCK", "FLANNELPY_LEASE_TTL", "mtu", "port", "vni"} <= set(ranges)
    for name, range_ in ranges.items():
        assert [row for row in OPTIONS.splitlines() if name in row and range_ in row], name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^(```.*?^```|    .*?$)", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http") or target == MADE_BY_BENCH:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_test_that_the_documentation_names_exists() -> None:
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.read_text())}
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 20
    assert named <= set(re.findall(r"^def (test_\w+)", tests, re.MULTILINE))


def test_the_index_has_every_page() -> None:
    index = (ROOT / "docs/README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index


def test_troubleshooting_has_each_finding_and_each_hop() -> None:
    sources = [*(ROOT / "operations/checks").glob("*.py"), ROOT / "operations/hops.py", ROOT / "operations/end.py"]
    text = "\n".join(path.read_text() for path in sources)
    named = set(re.findall(r'(?:error|warning|Hop)\(\s*"([a-z_ ]+)"', text)) - {"error", "warning"}
    page = (ROOT / "docs/troubleshooting.md").read_text()
    assert len(named) > 20
    assert [name for name in named if f"`{name}`" not in page] == []


JSON = {
    "status": Status,
    "hosts": Host,
    "networks": Network,
    "addresses": Address,
    "trace": TraceAnswer,
    "doctor": Diagnosis,
}


def names_in(kind: Any) -> set[str]:
    """Of a class's fields, and of those within."""
    found = set[str]()
    for name, about in get_type_hints(kind).items():
        parts = [part for each in (about, *get_args(about)) for part in (each, *get_args(each)) if is_dataclass(part)]
        found |= {name}.union(*map(names_in, parts))
    return found


@pytest.mark.parametrize("command", JSON)
def test_the_names_in_json_are_those_that_are_documented(command: str) -> None:
    page = (ROOT / "docs/commands.md").read_text()
    found = re.search(rf"^\* `{command}`: (.*?)^(?:\*|#)", page, re.MULTILINE | re.DOTALL)
    assert found
    assert names_in(JSON[command]) <= set(re.findall(r"`(\w+)`", found[1]))
    listed = re.split(r"[.;]\s", found[1])[0]  # what comes after explains values, too
    assert set(re.findall(r"`(\w+)`", listed)) <= names_in(JSON[command])


def test_the_readme_names_the_version_that_this_is() -> None:
    """The one place is pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert re.findall(r"This is version (\S+?),? ", (ROOT / "README.md").read_text()) == [project["version"]]


def test_completion_is_documented_as_each_shell_needs_it() -> None:
    page = (ROOT / "docs/commands.md").read_text()
    assert '`eval "$(_FLANNELPY_COMPLETE=bash_source flannelpy)"`' in page
    assert "`_FLANNELPY_COMPLETE=fish_source flannelpy | source`" in page  # fish takes no lines from a substitution
    shown = CliRunner().invoke(main, prog_name="flannelpy", env={"_FLANNELPY_COMPLETE": "fish_source"})
    assert "complete --no-files --command flannelpy" in shown.output


def test_every_command_that_the_documentation_types_is_there_with_its_options() -> None:
    typed = []
    for page in PAGES:
        spans = re.findall(r"`([^`\n]+)`|^    (.+)$", page.read_text(), re.MULTILINE)
        typed += [words for span in spans if (words := "".join(span).split("#")[0].split())[:1] == ["flannelpy"]]
    assert len(typed) > 50
    for _, *words in typed:
        command = main.commands.get(words[0]) if words else main
        assert command, words
        known = {option for each in (command, main) for param in each.params for option in param.opts}
        assert {word.strip("[]") for word in words if word.strip("[").startswith("--")} <= known, words


def test_the_commands_that_are_typed_on_machines_with_systemd_are_there() -> None:
    """Those tests take minutes, and are not run as often as the README changes."""
    assert "flannelpy install" in readme.block("### As a service", "apt install")
    for beginning in ("docker network create", "docker run -d", "docker run --rm"):
        assert readme.block("## A first network", beginning)


def test_every_setting_that_the_documentation_names_is_there() -> None:
    named = {name for page in PAGES for name in re.findall(r"\bFLANNELPY_[A-Z_]*[A-Z]", page.read_text())}
    assert named <= {field.metadata["env"] for field in fields(Settings)}
