"""/IpamDriver.*: a handler is decode, call, encode."""

from typing import Protocol

from flask import Blueprint, request

from ipam.model import AddressRequest, PoolId, PoolRequest
from plugin import wire
from plugin.handshake import Json
from store.ip import IPAddress, IPInterface, IPNetwork


class Ipam(Protocol):
    def request_pool(self, request: PoolRequest, /) -> tuple[PoolId, IPNetwork]: ...
    def release_pool(self, pool: PoolId, /) -> None: ...
    def request_address(self, request: AddressRequest, /) -> IPInterface: ...
    def release_address(self, pool: PoolId, address: IPAddress, /) -> None: ...


def blueprint(ipam: Ipam) -> Blueprint:
    bp = Blueprint("IpamDriver", __name__)

    @bp.post("/IpamDriver.RequestPool")
    def request_pool() -> Json:
        return wire.pool_answer(*ipam.request_pool(wire.pool_request(request.get_data())))

    @bp.post("/IpamDriver.ReleasePool")
    def release_pool() -> Json:
        ipam.release_pool(wire.pool_id(request.get_data()))
        return {}

    @bp.post("/IpamDriver.RequestAddress")
    def request_address() -> Json:
        return wire.address_answer(ipam.request_address(wire.address_request(request.get_data())))

    @bp.post("/IpamDriver.ReleaseAddress")
    def release_address() -> Json:
        ipam.release_address(*wire.released_address(request.get_data()))
        return {}

    return bp
