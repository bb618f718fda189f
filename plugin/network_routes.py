"""/NetworkDriver.*: a handler is decode, call, encode."""

from collections.abc import Sequence
from typing import Protocol

from flask import Blueprint, request

from driver.model import EndpointRequest, JoinAnswer, NetworkRequest, PortRequest
from plugin import wire
from plugin.handshake import Json


class NetworkDriver(Protocol):
    def create_network(self, request: NetworkRequest, /) -> None: ...
    def delete_network(self, network_id: str, /) -> None: ...
    def create_endpoint(self, request: EndpointRequest, /) -> str:
        """The endpoint's MAC: the given one, or the one it shall have."""

    def join(self, network_id: str, endpoint_id: str, sandbox: str, /) -> JoinAnswer: ...
    def publish_ports(self, network_id: str, endpoint_id: str, ports: Sequence[PortRequest], /) -> None: ...
    def withdraw_ports(self, network_id: str, endpoint_id: str, /) -> None: ...
    def leave(self, network_id: str, endpoint_id: str, /) -> None: ...
    def delete_endpoint(self, network_id: str, endpoint_id: str, /) -> None: ...


def blueprint(driver: NetworkDriver) -> Blueprint:
    bp = Blueprint("NetworkDriver", __name__)
    _networks(bp, driver)
    _endpoints(bp, driver)
    _ports(bp, driver)
    _not_needed(bp)
    return bp


def _networks(bp: Blueprint, driver: NetworkDriver) -> None:
    @bp.post("/NetworkDriver.CreateNetwork")
    def create_network() -> Json:
        driver.create_network(wire.network_request(request.get_data()))
        return {}

    @bp.post("/NetworkDriver.DeleteNetwork")
    def delete_network() -> Json:
        driver.delete_network(wire.network_id(request.get_data()))
        return {}


def _endpoints(bp: Blueprint, driver: NetworkDriver) -> None:
    @bp.post("/NetworkDriver.CreateEndpoint")
    def create_endpoint() -> Json:
        wanted = wire.endpoint_request(request.get_data())
        return wire.endpoint_answer(wanted, driver.create_endpoint(wanted))

    @bp.post("/NetworkDriver.Join")
    def join() -> Json:
        return wire.join_answer(driver.join(*wire.join_request(request.get_data())))

    @bp.post("/NetworkDriver.Leave")
    def leave() -> Json:
        driver.leave(*wire.endpoint_ids(request.get_data()))
        return {}

    @bp.post("/NetworkDriver.DeleteEndpoint")
    def delete_endpoint() -> Json:
        driver.delete_endpoint(*wire.endpoint_ids(request.get_data()))
        return {}

    @bp.post("/NetworkDriver.EndpointOperInfo")
    def endpoint_oper_info() -> Json:
        wire.endpoint_ids(request.get_data())
        return wire.endpoint_info()


def _ports(bp: Blueprint, driver: NetworkDriver) -> None:
    """Only for the endpoint that is its container's way out, and so for no network that leaves this to Docker."""

    @bp.post("/NetworkDriver.ProgramExternalConnectivity")
    def program_external_connectivity() -> Json:
        driver.publish_ports(*wire.port_requests(request.get_data()))
        return {}

    @bp.post("/NetworkDriver.RevokeExternalConnectivity")
    def revoke_external_connectivity() -> Json:
        driver.withdraw_ports(*wire.endpoint_ids(request.get_data()))
        return {}


def _not_needed(bp: Blueprint) -> None:
    """Calls of Swarm, and of gateway choices we leave to Docker."""

    @bp.post("/NetworkDriver.GwAllocCheck")
    def gw_alloc_check() -> Json:
        wire.gateway_check(request.get_data())
        return wire.gateways_needed()

    @bp.post("/NetworkDriver.AllocateNetwork")
    def allocate_network() -> Json:
        return wire.network_options(wire.allocated_options(request.get_data()))

    @bp.post("/NetworkDriver.FreeNetwork")
    def free_network() -> Json:
        wire.network_id(request.get_data())
        return {}

    @bp.post("/NetworkDriver.DiscoverNew")
    @bp.post("/NetworkDriver.DiscoverDelete")
    def discover() -> Json:
        wire.discovery(request.get_data())
        return {}
