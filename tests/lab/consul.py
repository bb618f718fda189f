"""A real Consul: one server or a cluster, each in a network namespace of its own."""

import http.client
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.lab import commands, unix_http
from tests.lab.images import ROOT
from tests.lab.namespaces import Namespace, Switch
from tests.lab.processes import Daemon

BINARY = ROOT / ".cache/bin/consul"
PORT = 8500
DNS_PORT = 8600


class ConsulRefused(Exception):
    """Consul's answer was an error; `status` is HTTP's."""

    def __init__(self, request: str, status: int, body: bytes) -> None:
        super().__init__(f"{request}: {status} {body.decode(errors='replace').strip()}")
        self.status = status


class ConsulServer:
    """One server agent."""

    def __init__(self, name: str, number: int, directory: Path, switch: Switch, config: Mapping[str, Any]) -> None:
        self.name, self.number, self.directory, self.switch = name, number, directory, switch
        self.namespace = Namespace(name)
        self.address = switch.address_of(number)
        self.socket = directory / "http.sock"
        self.agent: Daemon | None = None
        self._config = dict(config)

    @property
    def url(self) -> str:
        """As flannelpy's FLANNELPY_STORE takes it."""
        return f"consul://{self.address}:{PORT}"

    @property
    def alive(self) -> bool:
        return self.agent is not None and self.agent.alive

    def start(self) -> None:
        """Start the agent, for the first time or again on the same data."""
        if not self.namespace.path.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            self.namespace.create()
            self.switch.plug(self.namespace, self.number)
        own = {
            "node_name": self.name,
            "data_dir": str(self.directory / "data"),
            "bind_addr": self.address,
            "addresses": {"http": f"0.0.0.0 unix://{self.socket}", "dns": self.address},
            "ports": {"http": PORT, "dns": DNS_PORT},
        }
        config = self.directory / "consul.json"
        config.write_text(json.dumps(self._config | own))
        self.socket.unlink(missing_ok=True)
        command = (*self.namespace.enter, str(BINARY), "agent", "-server", "-config-file", str(config))
        self.agent = Daemon(f"Consul {self.name}", command, self.directory / "consul.log")

    def stop(self) -> None:
        """SIGTERM: it stays a member and is expected back."""
        if self.agent is not None:
            self.agent.stop()

    def kill(self) -> None:
        """SIGKILL."""
        if self.agent is not None:
            self.agent.kill()

    def pause(self) -> None:
        """SIGSTOP: connections are accepted and nothing is answered."""
        if self.agent is not None:
            self.agent.pause()

    def resume(self) -> None:
        if self.agent is not None:
            self.agent.resume()

    def cut(self) -> None:
        self.switch.cut(self.number)

    def mend(self) -> None:
        self.switch.mend(self.number)

    def api(self, method: str, path: str, body: Any = None, *, token: str = "", timeout: float = 10) -> Any:
        """A call of the HTTP API, JSON both ways; bytes go as they are."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"X-Consul-Token": token} if token else {}
        status, answer = unix_http.request(self.socket, method, path, body=data, headers=headers, timeout=timeout)
        if status != 200:
            raise ConsulRefused(f"{method} {path}", status, answer)
        return json.loads(answer) if answer else None

    def leader(self) -> str:
        """The address of the leader this server follows; empty when there is none, or no answer."""
        try:
            return str(self.api("GET", "/v1/status/leader", timeout=2)).partition(":")[0]
        except (OSError, http.client.HTTPException, ConsulRefused):
            return ""

    def answers_consistently(self) -> bool:
        """A leader that was elected answers so a moment later, whatever the answer is."""
        try:
            self.api("GET", "/v1/kv/x?consistent", timeout=2)
        except ConsulRefused as refused:
            return refused.status in (403, 404)
        except (OSError, http.client.HTTPException):
            return False
        return True

    def tail(self, lines: int = 30) -> str:
        return self.agent.tail(lines) if self.agent is not None else ""


class Consul:
    """The servers together, and what a test asks of the cluster."""

    def __init__(
        self,
        prefix: str,
        directory: Path,
        switch: Switch,
        *,
        servers: int = 1,
        acl: bool = False,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        numbers = range(2, 2 + servers)
        self.acl = acl
        self.token = ""  # the bootstrap token, with ACLs on
        common = {
            "bootstrap_expect": servers,
            "retry_join": [switch.address_of(number) for number in numbers] if servers > 1 else [],
            "retry_interval": "1s",
            "performance": {"raft_multiplier": 1},
            "disable_update_check": True,
            "disable_host_node_id": True,
            "acl": {"enabled": acl, "default_policy": "deny" if acl else "allow"},
            **(config or {}),
        }
        self.servers = [
            ConsulServer(f"{prefix}c{number - 1}", number, directory / f"c{number - 1}", switch, common)
            for number in numbers
        ]

    @property
    def url(self) -> str:
        """The first server's, for FLANNELPY_STORE."""
        return self.servers[0].url

    def start(self) -> None:
        for server in self.servers:
            server.start()
        if self.servers:
            self.wait_leader()
        if self.servers and self.acl:
            if not self.token:
                self._bootstrap_acl()
            self._await_acl()

    def _bootstrap_acl(self) -> None:
        """A leader is elected a moment before it is ready to do this."""

        def done() -> bool:
            try:
                self.token = self.servers[0].api("PUT", "/v1/acl/bootstrap")["SecretID"]
            except ConsulRefused:
                return False
            return True

        commands.wait_until("Consul's ACL system", done, timeout=20, tail=self.tail, every=0.2)

    def _await_acl(self) -> None:
        """A server that was started again does not know any token for a moment."""

        def known() -> bool:
            try:
                return bool(self.api("GET", "/v1/acl/token/self"))
            except ConsulRefused:
                return False

        commands.wait_until("Consul to know its tokens", known, timeout=20, tail=self.tail, every=0.1)

    def wait_leader(self, *, other_than: str = "", timeout: float = 30) -> str:
        """Until all servers that run follow the same leader, and it is not `other_than`: its address."""
        leaders: set[str] = set()

        def agreed() -> bool:
            leaders.clear()
            leaders.update(server.leader() for server in self.running())
            if len(leaders) != 1 or not leaders.isdisjoint({"", other_than}):
                return False
            return all(server.answers_consistently() for server in self.running())

        other = f" other than {other_than}" if other_than else ""
        commands.wait_until(f"a Consul leader{other}", agreed, timeout=timeout, tail=self.tail, every=0.1)
        return leaders.pop()

    def running(self) -> Sequence[ConsulServer]:
        return [server for server in self.servers if server.alive]

    def leader(self) -> ConsulServer:
        address = self.wait_leader()
        return next(server for server in self.servers if server.address == address)

    def api(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> Any:
        """A call to the first server that runs, with the bootstrap token unless another is given."""
        server = next(iter(self.running()), None)
        if server is None:
            raise RuntimeError("no Consul server runs")
        return server.api(method, path, body, token=self.token if token is None else token)

    def keys(self, prefix: str = "") -> list[str]:
        """The names of all keys below `prefix`."""
        try:
            return [str(key) for key in self.api("GET", f"/v1/kv/{prefix}?keys")]
        except ConsulRefused as refused:
            if refused.status == 404:
                return []
            raise

    def make_token(self, policy: str) -> str:
        """A token that may do what the policy's text says, and nothing else."""
        name = f"lab-{secrets.token_hex(4)}"
        self.api("PUT", "/v1/acl/policy", {"Name": name, "Rules": policy})
        return str(self.api("PUT", "/v1/acl/token", {"Policies": [{"Name": name}]})["SecretID"])

    def stop(self) -> None:
        for server in self.servers:
            server.stop()

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    def pause(self) -> None:
        for server in self.servers:
            server.pause()

    def resume(self) -> None:
        for server in self.servers:
            server.resume()

    def tail(self) -> str:
        return "\n".join(server.tail() for server in self.servers)
