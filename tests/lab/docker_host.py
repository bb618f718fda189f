"""A machine with a Docker Engine and, when asked for, flannelpy."""

import http.client
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.lab import commands, engines, images, unix_http
from tests.lab.machine import Machine, enter
from tests.lab.namespaces import Switch
from tests.lab.processes import Daemon
from tests.lab.snapshot import Snapshot, take_snapshot

CONTAINERD_CONFIG = """
version = 2
root = "{directory}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{directory}/containerd-opt"
"""
FLANNELPY = images.ROOT / ".venv/bin/flannelpy"
STAND_IN = (str(images.ROOT / ".venv/bin/python"), "-m", "plugin.stand_in")
PLUGIN_SOCKET = "/run/docker/plugins/flannelpy.sock"
FETCH = """
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2]))
except urllib.error.HTTPError as error:
    answer = error
with answer:
    print(answer.status)
    print(answer.read().decode(), end="")
"""


class DockerHost(Machine):
    """containerd and dockerd are two services, as a distribution's packages have it: one may die without the other."""

    def __init__(
        self,
        name: str,
        number: int,
        directory: Path,
        switch: Switch,
        *,
        dockerd_config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name, number, directory, switch)
        self.dockerd_config: dict[str, Any] = dict(dockerd_config or {})  # daemon.json, read at each start of dockerd
        self.docker_socket = directory / "docker.sock"
        self.engine = engines.chosen()
        self._engine_root: Daemon | None = None  # where another Engine than this machine's own lives
        self.containerd: Daemon | None = None
        self.dockerd: Daemon | None = None
        self.flannelpy: Daemon | None = None
        self.stand_in: Daemon | None = None
        self.flannelpy_env: dict[str, str] = {}
        self._ran: tuple[str, ...] = ()  # when it last lost power

    # --- the whole host

    def start(self) -> None:
        """Power on, start the Engine, load the images."""
        self.power_on()
        self.start_dockerd()
        self.load_images()

    def power_on(self) -> None:
        super().power_on()
        self._engine_root = self.engine.move_in(self) if self.engine.version else None

    def die(self) -> None:
        """Lose power: nothing is stopped in order, nothing answers any more, only the disk stays."""
        if self.powered:
            self._ran = self._running()
        self.power_off()
        for daemon in (self.containerd, self.dockerd, self.flannelpy, self.stand_in, self._engine_root):
            if daemon is not None:
                daemon.wait(10)

    def reboot(self, *order: str, clean: bool = False) -> None:
        """Lose power and come back with fresh interfaces, rules and `/run`, on the same disk.

        `order` names what is started, `flannelpy` and `dockerd`; by default what ran before, flannelpy first.
        `clean` stops both in order before."""
        if clean:
            order = order or self._running()
            self.stop_dockerd()
            self.stop_flannelpy()
        self.die()
        self.power_on()
        for service in order or self._ran:
            if service == "flannelpy":
                self.start_flannelpy(self.flannelpy_env)
            elif service == "dockerd":
                self.start_dockerd()
            else:
                raise ValueError(f"a host starts `flannelpy` and `dockerd`, not `{service}`")

    def runs(self, service: str) -> bool:
        daemon = {"dockerd": self.dockerd, "containerd": self.containerd, "flannelpy": self.flannelpy}[service]
        return daemon is not None and daemon.alive

    def _running(self) -> tuple[str, ...]:
        return tuple(service for service in ("flannelpy", "dockerd") if self.runs(service))

    def logs(self) -> dict[str, str]:
        """The end of each service's log, without dockerd's chatter about its connection to containerd."""
        daemons = {"dockerd": self.dockerd, "flannelpy": self.flannelpy}
        return {name: daemon.tail(60, without="[core]") for name, daemon in daemons.items() if daemon is not None}

    def snapshot(self) -> Snapshot:
        """What the kernel of this host holds, to be compared with an earlier or later one."""
        return take_snapshot(self.run)

    # --- the Engine

    def start_containerd(self) -> None:
        config = self.directory / "containerd.toml"
        config.write_text(CONTAINERD_CONFIG.format(directory=self.directory))
        self.containerd = self._service("containerd", "--config", str(config))
        self._await_service(
            "containerd", self.containerd, lambda: unix_http.accepts(self.path("/run/containerd/containerd.sock"))
        )

    def start_dockerd(self, *, wait: bool = True) -> None:
        """Start dockerd, and containerd unless it still runs."""
        if not self.runs("containerd"):
            self.start_containerd()
        config = self.directory / "daemon.json"
        config.write_text(json.dumps(self.dockerd_config))
        self.dockerd = self._service(
            "dockerd",
            *("--config-file", str(config), "--containerd", "/run/containerd/containerd.sock"),
            *("--data-root", str(self.directory / "docker"), "--exec-root", "/run/docker-exec"),
            *("--pidfile", "/run/docker.pid", "-H", "unix:///run/docker.sock", "-H", f"unix://{self.docker_socket}"),
            *("--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{self.name}"),
        )
        if wait:
            self.wait_dockerd()

    def wait_dockerd(self, timeout: float = 60) -> None:
        """Until the Engine's API answers."""
        if self.dockerd is None:
            raise RuntimeError(f"dockerd of {self.name} was never started")
        self._await_service("dockerd", self.dockerd, self.engine_answers, timeout)

    def engine_answers(self, timeout: float = 5) -> bool:
        try:
            return unix_http.request(self.docker_socket, "GET", "/_ping", timeout=timeout)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def stop_dockerd(self, timeout: float = 40) -> None:
        """SIGTERM: containers stop too, unless `live-restore` is set."""
        if self.dockerd is not None:
            self.dockerd.stop(timeout)

    def kill_dockerd(self) -> None:
        """SIGKILL: containerd, the shims and the containers run on."""
        if self.dockerd is not None:
            self.dockerd.kill()

    @property
    def _enter_engine(self) -> tuple[str, ...]:
        return enter(self._engine_root.pid) if self._engine_root is not None else ()

    def _service(self, name: str, *options: str) -> Daemon:
        command = (*(self._enter_engine or self.enter), name, *options)
        return Daemon(f"{name} of {self.name}", command, self.directory / f"{name}.log", enters=True)

    def _await_service(self, name: str, daemon: Daemon, ready: Callable[[], bool], timeout: float = 60) -> None:
        commands.wait_until(
            f"{name} of {self.name}", lambda: ready() or not daemon.alive, timeout=timeout, tail=daemon.tail
        )
        if not daemon.alive:
            raise RuntimeError(f"{name} of {self.name} ended while it started\n{daemon.tail()}")

    # --- the Docker CLI

    def docker(self, *args: str, timeout: float = 120, stdin: str | None = None) -> str:
        """`docker ARGS`: what it wrote to stdout; failure is an exception that shows stderr."""
        return commands.run(*self._docker(*args), timeout=timeout, stdin=stdin, env=self._docker_env)

    def docker_ok(self, *args: str, timeout: float = 120) -> bool:
        """`docker ARGS`: whether it worked."""
        return commands.attempt(*self._docker(*args), timeout=timeout, env=self._docker_env).returncode == 0

    def docker_refused(self, *args: str, timeout: float = 120) -> str:
        """`docker ARGS` that must fail: what the person at the prompt is told."""
        done = commands.attempt(*self._docker(*args), timeout=timeout, env=self._docker_env)
        if done.returncode == 0:
            raise AssertionError(f"`docker {' '.join(args)}` worked and should not have; it wrote {done.stdout!r}")
        return done.stderr.strip()

    def docker_json(self, *args: str, timeout: float = 120) -> Any:
        """`docker ARGS` that answers in JSON, such as the inspect commands."""
        return json.loads(self.docker(*args, timeout=timeout))

    def _docker(self, *args: str) -> tuple[str, ...]:
        program = (*self._enter_engine, "docker") if self._engine_root is not None else (engines.docker_command(),)
        return (*program, "-H", f"unix://{self.docker_socket}", *args)

    @property
    def _docker_env(self) -> dict[str, str]:
        return {"DOCKER_CONFIG": str(self.directory / "docker-cli")}

    def load_images(self) -> None:
        self.docker("load", "-i", str(images.archive()))

    def run_container(self, name: str, *options: str, command: Sequence[str] = ("sleep", "infinity")) -> str:
        """A container in the background: its id. An image may follow the options, else it is `lab/busybox`.

        It stops at once when told to, which a `sleep` that is its container's first process otherwise does not."""
        image = () if options and options[-1].startswith("lab/") else (images.BUSYBOX,)
        return self.docker("run", "-d", "--stop-signal", "KILL", "--name", name, *options, *image, *command)

    def container_exec(self, container: str, *command: str, timeout: float = 60) -> str:
        return self.docker("exec", container, *command, timeout=timeout)

    def container_pings(self, container: str, address: str, *, tries: int = 3) -> bool:
        """Whether one of so many pings from the container is answered, within a second each."""
        return any(self.docker_ok("exec", container, "ping", "-c", "1", "-W", "1", address) for _ in range(tries))

    def address_of(self, container: str, network: str, *, version: int = 4) -> str:
        """The container's address in the network, as Docker has it; empty when there is none."""
        networks = self.docker_json("inspect", container)[0]["NetworkSettings"]["Networks"]
        if network not in networks:
            raise AssertionError(f"container {container} is in {', '.join(networks) or 'no network'}, not in {network}")
        return str(networks[network]["IPAddress" if version == 4 else "GlobalIPv6Address"])

    def remove_containers(self) -> None:
        """All of them, however they are."""
        if containers := self.docker("ps", "-aq").split():
            self.docker("rm", "-f", "-v", *containers)

    # --- flannelpy

    def start_flannelpy(self, env: Mapping[str, str] | None = None, *, wait: bool = True) -> None:
        """`flannelpy serve` on this host, dockerd running or not."""
        if not FLANNELPY.exists():
            raise FileNotFoundError(f"{FLANNELPY} is not there; run scripts/setup")
        if self.runs("flannelpy"):
            raise RuntimeError(f"flannelpy of {self.name} runs already")
        self.flannelpy_env = dict(env or {})
        own = {
            "FLANNELPY_STATE_DIR": str(self.directory / "flannelpy"),
            "FLANNELPY_HOST": self.name,
            "FLANNELPY_PROPAGATE": "false",  # most tests make their networks host by host, as they need them
            "HOME": str(self.directory),
            "PYTHONUNBUFFERED": "1",
        }
        self.flannelpy = self.daemon(
            "flannelpy", str(FLANNELPY), "serve", log="flannelpy.log", env={**own, **self.flannelpy_env}
        )
        if wait:
            self.wait_flannelpy()

    def wait_flannelpy(self, timeout: float = 30) -> None:
        """Until the plugin socket accepts."""
        if self.flannelpy is None:
            raise RuntimeError(f"flannelpy of {self.name} was never started")
        plugin_socket = self.path(self.flannelpy_env.get("FLANNELPY_SOCKET", PLUGIN_SOCKET))
        self._await_service("flannelpy", self.flannelpy, lambda: unix_http.accepts(plugin_socket), timeout)

    def stop_flannelpy(self, timeout: float = 30) -> int:
        """SIGTERM: the exit status."""
        return self.flannelpy.stop(timeout) if self.flannelpy is not None else 0

    def kill_flannelpy(self) -> None:
        """SIGKILL to the master and all its workers."""
        if self.flannelpy is not None:
            self.flannelpy.kill_family()

    def start_stand_in(self) -> None:
        """Who answers Docker while flannelpy does not run, until the plugin socket accepts."""
        self.stand_in = self.daemon("the stand-in", *STAND_IN, log="stand-in.log")
        self._await_service("the stand-in", self.stand_in, lambda: unix_http.accepts(self.path(PLUGIN_SOCKET)))

    def await_handover(self, timeout: float = 30) -> None:
        """Until the stand-in has ended, because flannelpy answers."""
        assert self.stand_in is not None
        assert self.stand_in.wait(timeout) == 0, self.stand_in.tail()

    def flannelpy_log(self) -> str:
        """All of it, over restarts."""
        log = self.directory / "flannelpy.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def flannelpy_command(self, *args: str, timeout: float = 60) -> str:
        """`flannelpy ARGS` with the settings that `serve` was started with: what it wrote."""
        own = {"FLANNELPY_STATE_DIR": str(self.directory / "flannelpy"), "FLANNELPY_HOST": self.name}
        settings = [f"{key}={value}" for key, value in {**own, **self.flannelpy_env}.items()]
        return self.run("env", *settings, str(FLANNELPY), *args, timeout=timeout)

    def http(self, url: str, *, timeout: float = 5) -> tuple[int, str]:
        """GET from this host's point of view: status and body."""
        status, _, body = self.run(
            sys.executable, "-I", "-c", FETCH, url, str(timeout), timeout=timeout + 10
        ).partition("\n")
        return int(status), body
