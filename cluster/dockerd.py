"""What the Engine knows: the only file that uses its API. Never from a request, for the Engine waits for those."""

import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound, create_api_error_from_http_exception
from docker.utils import version_lt
from requests.exceptions import HTTPError, RequestException

from cluster.engine import (
    EngineContainer,
    EngineNetwork,
    Event,
    Glance,
    ListedNetwork,
    Unstarted,
    body_of,
    needs,
    read_container,
    read_event,
    read_glance,
    read_listed,
    read_name,
    read_network,
    read_unstarted,
)
from store.records import NetworkShape

WITHOUT_IPV4 = "1.48"  # the API's version from which networks can be so
UNIX = "unix://"
TIMEOUT = 10  # seconds for one answer
SHORT_TIMEOUT = 2  # where somebody waits for it
# Health checks alone would make an event every few seconds for each container.
FOLLOWED = {
    "type": ["network", "container"],
    "event": ["create", "connect", "disconnect", "destroy", "start", "die", "rename"],
}


class EngineUnavailable(Exception):
    """The Engine did not answer. Says nothing about what it has."""


class EngineRefused(EngineUnavailable):
    """The Engine answered that it will not; the message is its own sentence."""


class Dockerd:
    def __init__(self, url: str) -> None:
        self._url = url
        self._version: str | None = None  # of the API, as agreed with the Engine when it was last connected to

    def networks(self, timeout: int = TIMEOUT) -> list[EngineNetwork]:
        """Every network of the Engine, whole; EngineUnavailable if any part of the answer is missing."""
        with self._client(timeout) as client:
            listed = client.networks()
            return [network for known in listed if (network := self._whole(client, known["Id"])) is not None]

    def listed(self) -> list[ListedNetwork]:
        """Every network of the Engine, without its containers."""
        with self._client() as client:
            return [read_listed(shape) for shape in client.networks()]

    def has_network(self, network_id: str) -> bool:
        with self._client() as client:
            try:
                client.inspect_network(network_id)
            except NotFound:
                return False
            return True

    def pids_of(self, containers: Collection[str]) -> dict[str, int]:
        """The first processes of those that run, by name or id, as far as the Engine tells: of a container that it
        starts or stops it does not, and nobody waits for the others then."""
        found = dict[str, int]()
        if not containers:
            return found
        with suppress(EngineUnavailable), self._client(SHORT_TIMEOUT) as client:
            for container in containers:
                shape = self._inspected(client, container)
                if shape is not None and (pid := shape["State"].get("Pid")):
                    found[container] = int(pid)
        return found

    def users_of(self, network_id: str, name: str) -> list[str]:
        """The names of the containers that need the network, running or not. One that never ran knows its name only."""
        with self._client() as client:
            found = client.containers(all=True, filters={"network": [network_id, name]})
            return sorted(read_name(container) for container in found if needs(container, network_id, name))

    def create_network(self, shape: NetworkShape) -> str:
        """The id. EngineRefused, also when there is a network of that name."""
        with self._client() as client:
            if not shape.ipv4 and version_lt(client.api_version, WITHOUT_IPV4):
                raise EngineRefused("it has no IPv4, and only Engine 28 and later make such networks")
            return _created(client, "networks", body_of(shape))

    def remove_network(self, network_id: str) -> None:
        """One already gone is fine. EngineRefused while a container is attached."""
        with self._client() as client, suppress(NotFound):
            client.remove_network(network_id)

    def unstarted(self, networks: Collection[str]) -> list[Unstarted]:
        """Of the containers in these networks, by id, that have run before: of one that was never started, whoever
        typed the command knows."""
        with self._client() as client:
            filters = {"network": list(networks), "status": ["exited"]}
            found = [self._inspected(client, c["Id"]) for c in client.containers(all=True, filters=filters)]
            return [u for shape in found if shape is not None and (u := read_unstarted(shape)) is not None]

    def _inspected(self, client: Any, container_id: str) -> Any:
        """None for a container that was removed after it was listed."""
        try:
            return client.inspect_container(container_id)
        except NotFound:
            return None

    def start(self, container_id: str) -> None:
        """One that runs already is fine."""
        with self._client() as client:
            client.start(container_id)

    def running(self) -> dict[str, Glance]:
        """All containers that run, by id. Does not wait while the Engine starts or stops one."""
        with self._client() as client:
            return {shape["Id"]: read_glance(shape) for shape in client.containers()}

    def container(self, container_id: str) -> EngineContainer | None:
        """None if there is no such container. Waits while the Engine starts or stops it."""
        with self._client() as client:
            try:
                return read_container(client.inspect_container(container_id))
            except NotFound:
                return None

    @contextmanager
    def events(self, since: int) -> Iterator[Iterator[Event]]:
        """What the Engine still remembers since then (nanoseconds since the epoch), and what happens from now on.

        Ends, or raises EngineUnavailable, when the Engine does."""
        self._version = None  # whoever connects anew may have another Engine before him
        with self._client() as client:
            stream = client.events(since=f"{since // 10**9}.{since % 10**9:09d}", filters=FOLLOWED, decode=True)
            yield map(read_event, stream)

    @contextmanager
    def _client(self, timeout: int = TIMEOUT) -> Iterator[Any]:
        """A client for each look: an Engine that was restarted, or replaced, answers like any other."""
        try:
            client = self._connected(timeout)
            try:
                yield client
            finally:
                client.close()
        except APIError as error:
            if not _is_other_version(error):
                raise EngineRefused(str(error.explanation or error)) from error
            self._version = None
            raise EngineUnavailable(f"the Docker Engine at {self._url} was replaced: {error}") from error
        except (DockerException, RequestException, OSError) as error:
            self._version = None
            raise EngineUnavailable(f"the Docker Engine at {self._url} does not answer: {error}") from error

    def _connected(self, timeout: int) -> Any:
        """To be asked for its version, the Engine runs two programs: not more often than it can have changed."""
        if self._version is None:
            _knock(self._url, timeout)
        version = self._version or "auto"
        client = docker.APIClient(base_url=self._url, version=version, timeout=timeout, use_ssh_client=False)
        self._version = client.api_version
        return client

    def _whole(self, client: Any, network_id: str) -> EngineNetwork | None:
        """None for a network that was removed after it was listed."""
        try:
            return read_network(client.inspect_network(network_id))
        except NotFound:
            return None


def _knock(url: str, timeout: int) -> None:
    """OSError where nobody is: the library takes a hundred times as long to find that out, again and again."""
    if url.startswith(UNIX):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(timeout)
            door.connect(url.removeprefix(UNIX))


def _created(client: Any, what: str, body: Mapping[str, Any]) -> str:
    """The id of what is made. The library's own method has no word for a network without IPv4."""
    answer = client.post(f"{client.base_url}/v{client.api_version}/{what}/create", json=body, timeout=TIMEOUT)
    try:
        answer.raise_for_status()
    except HTTPError as error:
        create_api_error_from_http_exception(error)
    return str(answer.json()["Id"])


def _is_other_version(error: APIError) -> bool:
    """Too new or too old for this Engine."""
    return error.status_code == 400 and "client version" in str(error.explanation)
