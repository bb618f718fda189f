"""What `make release` makes of a copy of this checkout, a repository of its own, with neither network nor Engine."""

import json
import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from operations.version import version
from tests.lab import requirements
from tests.lab.commands import CommandFailed, run

ROOT = Path(__file__).parents[2]
WHEELS = ROOT / ".cache/release-wheels"
WHEN = 1_700_000_000
NAME = f"flannelpy-{version()}"
WHEEL, SOURCE, SBOM = f"{NAME}-py3-none-any.whl", f"{NAME}.tar.gz", f"{NAME}.cdx.json"
LOCAL = (".git", ".venv", ".*cache", "__pycache__", ".hypothesis", "dist", "build", "*.egg-info")
LEFT_HERE = "docs/not-committed.md"
ENV = {
    "PATH": f"{ROOT}/.venv/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "DOCKER_HOST": "unix:///nowhere",
    "SOURCE_DATE_EPOCH": str(WHEN),
    "GIT_CONFIG_GLOBAL": "/dev/null",
    **{
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "a"), ("EMAIL", "a@localhost"), ("DATE", f"@{WHEN} +0000"))
    },
    "PIP_CONFIG_FILE": "/dev/null",
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": str(WHEELS),
    "PIP_NO_COMPILE": "1",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not WHEELS.exists():
        sentence = f"{WHEELS} is missing; run scripts/setup --release"
        (pytest.fail if requirements.demanded() else pytest.skip)(sentence)
    copy = tmp_path_factory.mktemp("release") / "checkout"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LOCAL))
    for words in ("init --quiet", "add .", "commit --quiet --message all"):
        run("git", "-C", str(copy), *words.split(), env=ENV)
    (copy / LEFT_HERE).touch()
    return copy


@pytest.fixture(scope="module")
def dist(repository: Path) -> Path:
    run(str(repository / "scripts/release"), env=ENV, timeout=300)
    return repository / "dist"


def test_another_version_than_the_tags_is_not_released(repository: Path) -> None:
    with pytest.raises(CommandFailed, match=rf"the tag is v9.9, but pyproject.toml has version {re.escape(version())}"):
        run(str(repository / "scripts/release"), env={**ENV, "RELEASE_TAG": "v9.9"})


def test_the_checksums_are_those_of_all_that_is_released(dist: Path) -> None:
    listed = (dist / "SHA256SUMS").read_text().split()[1::2]
    assert sorted(listed) == sorted([WHEEL, SOURCE, SBOM])
    assert {path.name for path in dist.iterdir()} == {*listed, "SHA256SUMS"}
    run("sh", "-c", 'cd "$0" && sha256sum --strict --check SHA256SUMS', str(dist))


def test_the_wheel_has_all_that_is_in_the_packages_and_nothing_else(dist: Path, repository: Path) -> None:
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        inside = {name for name in wheel.namelist() if not name.startswith(f"{NAME}.dist-info/")}
    packages = {name.split("/")[0] for name in inside}
    assert inside == set(run("git", "-C", str(repository), "ls-files", *packages, env=ENV).splitlines())
    assert {"operations/page/index.html", "plugin/flannelpy.service"} <= inside


def test_the_source_is_what_was_committed_and_does_not_say_who_made_it_and_when(dist: Path, repository: Path) -> None:
    with tarfile.open(dist / SOURCE) as source:
        members = source.getmembers()
    files = {member.name.removeprefix(f"{NAME}/") for member in members if member.isfile()}
    committed = set(run("git", "-C", str(repository), "ls-files", env=ENV).splitlines())
    made = {"PKG-INFO", "setup.cfg", *(name for name in files if name.startswith("flannelpy.egg-info/"))}
    assert files - made <= committed
    assert {name for name in committed if not name.startswith((".ci", ".git"))} <= files
    assert LEFT_HERE not in files
    assert {(member.mtime, member.uid, member.gid, member.uname) for member in members} == {(WHEN, 0, 0, "")}
    assert (dist / SOURCE).read_bytes()[4:8] == bytes(4), "gzip's own time"


def test_who_builds_the_source_has_the_same_wheel(dist: Path, tmp_path: Path) -> None:
    run(f"{ROOT}/.venv/bin/python", *f"-m pip wheel --no-deps --wheel-dir {tmp_path} {dist / SOURCE}".split(), env=ENV)
    assert (tmp_path / WHEEL).read_bytes() == (dist / WHEEL).read_bytes()


def test_the_list_has_exactly_what_is_installed_with_it(dist: Path) -> None:
    sbom = json.loads((dist / SBOM).read_text())
    assert (sbom["bomFormat"], sbom["metadata"]["component"]["name"]) == ("CycloneDX", "flannelpy")
    assert sbom["metadata"]["component"]["version"] == version()
    fetched = dict(parse_wheel_filename(path.name)[:2] for path in WHEELS.glob("*.whl"))
    assert {part["purl"] for part in sbom["components"]} == {
        f"pkg:pypi/{name}@{fetched[canonicalize_name(name)]}" for name in needed("flannelpy", set())
    }
    assert str(dist.parent) not in json.dumps(sbom)


def needed(name: str, known: set[str]) -> set[str]:
    """All that is installed with it, as the packages here say themselves."""
    for other in set(direct(name)) - known:
        known |= needed(other, known | {other})
    return known


def direct(name: str) -> Iterator[str]:
    for line in requires(name) or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)
