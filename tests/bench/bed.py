"""A Docker host whose flannelpy is called as dockerd calls it, without dockerd."""

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import unix_http
from tests.lab.docker_host import PLUGIN_SOCKET, DockerHost
from tests.memory import cpu_seconds, family

POOL = "10.242.0.0/18"


class Bed:
    """A Docker host with flannelpy, and a network on it that Docker made; speaks to flannelpy as dockerd does."""

    def __init__(self, host: DockerHost) -> None:
        self.host = host
        self._socket = host.path(PLUGIN_SOCKET)
        ours = ("-d", "flannelpy", "--ipam-driver", "flannelpy", "--subnet")
        self.network = host.docker("network", "create", *ours, POOL, "bench")

    @property
    def state_dir(self) -> Path:
        return self.host.directory / "flannelpy"

    def blocks_taken(self) -> int:
        return self.host.flannelpy_log().count(" block taken ")

    def processes(self) -> list[int]:
        """Master, worker, and what that has started: the resolver first."""
        return family(self.host.flannelpy.pid) if self.host.flannelpy else []

    def cpu_seconds(self) -> float:
        """What flannelpy has used so far."""
        return cpu_seconds(self.processes())

    def call(self, method: str, body: Mapping[str, Any]) -> tuple[Any, float]:
        """The answer, and the milliseconds it took. One connection per call: flannelpy keeps none open."""
        request = json.dumps(body).encode()
        began = time.perf_counter()
        status, answer = unix_http.request(self._socket, "POST", f"/{method}", body=request, timeout=60)
        took = milliseconds_since(began)
        if status != 200:
            raise RuntimeError(f"{method} was refused with {status}: {answer.decode(errors='replace')}")
        return json.loads(answer), took

    def attach(self) -> tuple["Attachment", dict[str, float]]:
        """What dockerd asks of us for one container, and the milliseconds of each call."""
        endpoint, took = secrets.token_hex(32), {}
        ask = {"PoolID": POOL, "Address": "", "Options": None}
        given, took["RequestAddress"] = self.call("IpamDriver.RequestAddress", ask)
        ids = {"NetworkID": self.network, "EndpointID": endpoint}
        interface = {"Address": given["Address"], "AddressIPv6": "", "MacAddress": ""}
        create = {**ids, "Interface": interface, "Options": {}}
        _, took["CreateEndpoint"] = self.call("NetworkDriver.CreateEndpoint", create)
        sandbox = f"/var/run/docker/netns/{endpoint[:12]}"
        _, took["Join"] = self.call("NetworkDriver.Join", {**ids, "SandboxKey": sandbox, "Options": {}})
        return Attachment(self, endpoint, given["Address"].partition("/")[0]), took


@dataclass(frozen=True, slots=True)
class Attachment:
    bed: Bed
    endpoint: str
    address: str

    def undo(self) -> None:
        ids = {"NetworkID": self.bed.network, "EndpointID": self.endpoint}
        self.bed.call("NetworkDriver.Leave", ids)
        self.bed.call("NetworkDriver.DeleteEndpoint", ids)
        self.bed.call("IpamDriver.ReleaseAddress", {"PoolID": POOL, "Address": self.address})


def milliseconds_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
