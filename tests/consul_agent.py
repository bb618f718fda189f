"""Real Consul servers for tests: processes on 127.0.0.1 with random ports, each with a directory of its own."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

BINARY = Path(__file__).parent.parent / ".cache/bin/consul"
MISSING = f"{BINARY} is missing: scripts/setup puts it there"
PORTS = ("http", "https", "server", "serf_lan", "dns")
START_TIMEOUT = 30  # seconds
# Below those that Linux gives to connections, which must not have the port of a server that is away for a moment.
FOR_SERVERS = range(12_000, 32_768)
# Where a test run is killed, its servers go too. (The kernel means the thread that started them: use the main one.)
DIE_WITH_PARENT = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


class ConsulAgent:
    """`start` it, and `stop` it at the end. Its files and its log are in `directory` and outlive a stop."""

    def __init__(self, directory: Path, *, acls: bool = False, join: Sequence[str] = ()) -> None:
        """With `acls` nobody may do anything without a token, and https asks for a certificate too. `join` are the
        addresses at which it finds all servers, if it is one of several."""
        self.directory, self.acls, self.join = directory, acls, join
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self._management_token: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        if acls:
            for command in (["ca", "create"], ["cert", "create", "-server"], ["cert", "create", "-client"]):
                subprocess.run([BINARY, "tls", *command], cwd=directory, check=True, capture_output=True)

    @property
    def url(self) -> str:
        return f"consul://127.0.0.1:{self.ports['http']}"

    @property
    def tls_url(self) -> str:
        return f"consuls://127.0.0.1:{self.ports['https']}"

    @property
    def tls_environ(self) -> dict[str, str]:
        """What a client of `tls_url` sets."""
        return {
            "CONSUL_CACERT": str(self.directory / "consul-agent-ca.pem"),
            "CONSUL_CLIENT_CERT": str(self.directory / "dc1-client-consul-0.pem"),
            "CONSUL_CLIENT_KEY": str(self.directory / "dc1-client-consul-0-key.pem"),
        }

    def start(self) -> None:
        """Return once it has elected itself. RuntimeError with the end of its log if it does not."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        config = self.directory / "config.json"
        config.write_text(json.dumps(self._config()))
        with (self.directory / "log").open("ab") as log:
            expected = f"-bootstrap-expect={len(self.join) or 1}"
            command = [str(BINARY), "agent", "-server", expected, "-config-file", str(config)]
            self._process = subprocess.Popen([*DIE_WITH_PARENT, *command], stdout=log, stderr=log)

    def stop(self) -> None:
        """Kill it, as a power cut would; fine when it is not running."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It still accepts connections (the kernel does), but answers nothing until `thaw`."""
        os.waitid(os.P_PID, self._signal(signal.SIGSTOP), os.WSTOPPED)  # its last thread stops a little later

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def token(self, rules: str) -> str:
        """A new token with one policy, given in Consul's language: `key_prefix "x/" { policy = "write" }`."""
        name = f"policy-{time.monotonic_ns()}"
        self._call("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules}).raise_for_status()
        made = self._call("PUT", "/v1/acl/token", {"Policies": [{"Name": name}]})
        made.raise_for_status()
        return str(made.json()["SecretID"])

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "bind_addr": "127.0.0.1",
            "data_dir": str(self.directory / "data"),
            "disable_update_check": True,
            "log_level": "warn",
            "node_name": f"server-{self.ports['server']}",
            "retry_interval": "1s",
            "retry_join": list(self.join),
            "performance": {"raft_multiplier": 1},
            # Struck off after ten seconds, a server of three would leave two, of which none may be lost.
            "autopilot": {"cleanup_dead_servers": False},
            "ports": {**self.ports, "grpc": -1, "serf_wan": -1},
        }
        if not self.acls:
            config["ports"]["https"] = -1
            return config
        return config | {
            "acl": {"enabled": True, "default_policy": "deny"},
            "ca_file": self.tls_environ["CONSUL_CACERT"],
            "cert_file": str(self.directory / "dc1-server-consul-0.pem"),
            "key_file": str(self.directory / "dc1-server-consul-0-key.pem"),
            "verify_incoming_https": True,
        }

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not self._is_ready():
            assert self._process
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                log = (self.directory / "log").read_text()
                raise RuntimeError(f"Consul did not come up: {log[-2000:]}")
            time.sleep(0.05)

    def leads(self) -> bool:
        """Whether it takes itself for the leader."""
        leader = self._call("GET", "/v1/status/leader").json()
        return bool(leader == f"127.0.0.1:{self.ports['server']}")

    def _is_ready(self) -> bool:
        try:
            if not self._call("GET", "/v1/status/leader").json():
                return False
            if self.acls and not self._management_token:
                bootstrap = self._call("PUT", "/v1/acl/bootstrap")
                self._management_token = bootstrap.json()["SecretID"] if bootstrap.ok else None
                return bootstrap.ok
            return self._call("PUT", "/v1/kv/ready", {}).ok
        except (requests.RequestException, ValueError):
            return False

    def _call(self, method: str, path: str, body: Any = None) -> requests.Response:
        url = f"http://127.0.0.1:{self.ports['http']}{path}"
        headers = {"X-Consul-Token": self._management_token} if self._management_token else {}
        return requests.request(method, url, json=body, headers=headers, timeout=5)

    def _signal(self, number: signal.Signals) -> int:
        assert self._process, "the agent is not running"
        self._process.send_signal(number)
        return self._process.pid


class ConsulServers:
    """Several servers with one leader; a host asks one of them."""

    def __init__(self, directory: Path, count: int = 3) -> None:
        self.agents = [ConsulAgent(directory / str(number)) for number in range(count)]
        for agent in self.agents:
            agent.join = [f"127.0.0.1:{one.ports['serf_lan']}" for one in self.agents]

    def start(self) -> None:
        for agent in self.agents:
            agent.launch()
        self.wait_until_ready()

    def stop(self) -> None:
        for agent in self.agents:
            agent.stop()

    def wait_until_ready(self) -> None:
        for agent in self.agents:
            agent.wait_until_ready()

    @contextmanager
    def without(self, lost: ConsulAgent, *, frozen: bool = False) -> Iterator[None]:
        """The others have a leader before the block begins, and all have before it has ended. One that is `frozen`
        goes on where it was, in the belief that nothing has changed."""
        lost.freeze() if frozen else lost.stop()
        try:
            for agent in self.agents:
                if agent is not lost:
                    agent.wait_until_ready()
            yield
        finally:
            lost.thaw() if frozen else lost.launch()
            self.wait_until_ready()

    def leader(self) -> ConsulAgent:
        return next(agent for agent in self.agents if agent.leads())


def free_ports(count: int) -> list[int]:
    """Ports nobody had a moment ago: all are held until the last is found, so they differ."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            one = held.enter_context(socket.socket())
            with suppress(OSError):
                one.bind(("127.0.0.1", random.choice(FOR_SERVERS)))
                found.append(one.getsockname()[1])
    return found
