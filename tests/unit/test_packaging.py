"""That everything gets into what is shipped, and that nothing is written twice."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

from plugin import privileges

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


def test_who_runs_the_demo_does_not_wait_for_what_the_plugin_is_built_from() -> None:
    def typed(target: str) -> str:
        return subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert [name for name in ("lint", "unit", "demo", "bench", "test") if "--plugin-base" in typed(name)] == ["test"]
    wrong = subprocess.run([ROOT / "scripts/setup", "--everything"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr.startswith("usage: ")) == (2, True)


IMAGE = re.compile(r"debian:[a-z]+-\d{8}(-slim)?@sha256:[0-9a-f]{64}")


def test_images_are_named_by_digest() -> None:
    """A tag can be moved."""
    base = re.findall(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    ci = re.findall(r"(?:container|image): (\S+)$", (ROOT / ".github/workflows/ci.yml").read_text(), re.MULTILINE)
    assert (len(base), len(ci)) == (1, 2)
    assert [image for image in (*base, *ci) if not IMAGE.fullmatch(image)] == []


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


def test_the_list_of_a_release_has_the_debian_packages_of_the_plugin(tmp_path: Path) -> None:
    listed, sbom = tmp_path / "usr/share/debian-packages", tmp_path / "sbom.json"
    listed.parent.mkdir(parents=True)
    listed.write_text("libssl3\t1:3.5.4-1+b1\tamd64\topenssl\n")
    sbom.write_text('{"bomFormat": "CycloneDX", "components": [{"name": "flask"}]}')
    subprocess.run([ROOT / "scripts/sbom", sbom, tmp_path], check=True)
    flask, libssl = json.loads(sbom.read_text())["components"]
    assert flask == {"name": "flask"}
    assert (libssl["name"], libssl["version"]) == ("libssl3", "1:3.5.4-1+b1")
    assert libssl["purl"] == "pkg:deb/debian/libssl3@1%3A3.5.4-1%2Bb1?arch=amd64&upstream=openssl"
    assert (ROOT / "Dockerfile").read_text().count(f"/{listed.relative_to(tmp_path)} ") == 1
    assert 'scripts/sbom "$sbom" "$work/plugin/rootfs"' in (ROOT / "scripts/release").read_text()
