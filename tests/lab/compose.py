"""The real `docker compose`, on one of the lab's hosts."""

from collections.abc import Mapping
from pathlib import Path

from tests.lab import commands, images
from tests.lab.docker_host import DockerHost

BINARY = images.ROOT / ".cache/bin/docker-compose"
EXAMPLE = images.ROOT / "examples/compose/compose.yaml"


def compose(host: DockerHost, file: Path, *args: str, env: Mapping[str, str] | None = None, timeout: float = 60) -> str:
    """`docker compose -f FILE ARGS`: what it wrote to stdout; failure is an exception that shows stderr."""
    own = {"DOCKER_HOST": f"unix://{host.docker_socket}", "DOCKER_CONFIG": str(host.directory / "docker-cli")}
    return commands.run(str(BINARY), "-f", str(file), *args, timeout=timeout, env={**own, **(env or {})})


def shop(host: DockerHost, *args: str) -> str:
    """`docker compose ARGS` of the example, whose project is `shop`."""
    return compose(host, EXAMPLE, *args, env={"IMAGE": "lab/busybox"})
