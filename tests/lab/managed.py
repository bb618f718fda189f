"""The managed plugin, from the Dockerfile to `docker plugin enable`.

Hosts of the lab reach no registry and no mirror: what `scripts/plugin-base` has fetched is imported in place of the
image that the Dockerfile begins with, and served to `docker build` on the building host's own loopback."""

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.lab import commands, unix_http
from tests.lab.docker_host import PLUGIN_SOCKET, DockerHost
from tests.lab.images import ROOT

BASE = ROOT / ".cache/plugin-base"
BASE_IMAGE = "plugin-base"
PORT = "8480"
NAME = "flannelpy-plugin"


def missing() -> str:
    """Empty when nothing is."""
    return "" if BASE.exists() else f"{BASE} is missing; run scripts/setup --plugin-base"


def build(host: DockerHost, into: Path) -> None:
    """`make plugin`, with this host's Engine."""
    host.docker("import", str(BASE / "base.tar"), BASE_IMAGE)
    served = ("-m", "http.server", "--bind", "127.0.0.1", "--directory", str(BASE / "mirror"), PORT)
    mirror = host.daemon("mirror", sys.executable, *served, log="mirror.log")
    try:
        answers = ("sh", "-c", f"busybox nc 127.0.0.1 {PORT} </dev/null")
        commands.wait_until("the mirror", lambda: host.attempt(*answers).returncode == 0, timeout=15, tail=mirror.tail)
        env = {
            "DOCKER_HOST": f"unix://{host.docker_socket}",
            "DOCKER_CONFIG": str(host.directory / "docker-cli"),
            "DOCKER_BUILD_OPTIONS": f"--network host --build-arg BASE={BASE_IMAGE}",
        }
        commands.run(str(ROOT / "scripts/plugin"), str(into), env=env, timeout=200)
    finally:
        mirror.kill()


def install(host: DockerHost, directory: Path, settings: Mapping[str, str]) -> None:
    """As the README has it: create, set, enable."""
    state = host.directory / "var-lib"
    state.mkdir(exist_ok=True)  # the lab's hosts share this machine's /var/lib
    host.docker("plugin", "create", NAME, str(directory))
    given = {"FLANNELPY_HOST": host.name, "state.source": str(state), **settings}
    host.docker("plugin", "set", NAME, *(f"{key}={value}" for key, value in given.items()))
    host.docker("plugin", "enable", NAME)
    commands.wait_until("the plugin's socket", lambda: unix_http.accepts(host.path(PLUGIN_SOCKET)), timeout=15)


def remove(host: DockerHost) -> None:
    host.docker("plugin", "disable", NAME)
    host.docker("plugin", "rm", NAME)
