"""Stand-ins behind the blueprints that write down every call, and a Flask client in front of them."""

from collections.abc import Sequence
from ipaddress import ip_address, ip_interface, ip_network

from flask.testing import FlaskClient

from driver.model import EndpointRequest, JoinAnswer, NetworkRequest, PortRequest, StaticRoute
from ipam.model import AddressRequest, PoolId, PoolRequest
from plugin.app import build_app
from store.ip import IPAddress, IPInterface, IPNetwork

MAC = "02:42:0a:4d:03:02"


class Recorder:
    """Notes what is asked; raises `error` instead of answering if there is one."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.error: Exception | None = None

    def note(self, *call: object) -> None:
        self.calls.append(call)
        if self.error:
            raise self.error


class FakeIpam(Recorder):
    def request_pool(self, request: PoolRequest, /) -> tuple[PoolId, IPNetwork]:
        self.note("request_pool", request)
        pool = request.pool or ip_network("10.224.0.0/18")
        return PoolId(pool, request.range), pool

    def release_pool(self, pool: PoolId, /) -> None:
        self.note("release_pool", pool)

    def request_address(self, request: AddressRequest, /) -> IPInterface:
        self.note("request_address", request)
        return ip_interface(f"{request.address or request.pool.pool[2]}/{request.pool.pool.max_prefixlen}")

    def release_address(self, pool: PoolId, address: IPAddress, /) -> None:
        self.note("release_address", pool, address)


class FakeDriver(Recorder):
    def create_network(self, request: NetworkRequest, /) -> None:
        self.note("create_network", request)

    def delete_network(self, network_id: str, /) -> None:
        self.note("delete_network", network_id)

    def create_endpoint(self, request: EndpointRequest, /) -> str:
        self.note("create_endpoint", request)
        return request.mac or MAC

    def publish_ports(self, network_id: str, endpoint_id: str, ports: Sequence[PortRequest], /) -> None:
        self.note("publish_ports", network_id, endpoint_id, ports)

    def withdraw_ports(self, network_id: str, endpoint_id: str, /) -> None:
        self.note("withdraw_ports", network_id, endpoint_id)

    def join(self, network_id: str, endpoint_id: str, sandbox: str, /) -> JoinAnswer:
        self.note("join", network_id, endpoint_id, sandbox)
        gateway = ip_address("10.77.0.1")
        return JoinAnswer(
            f"flc{endpoint_id[:11]}",
            "eth",
            (StaticRoute(ip_network("10.77.0.1/32"), None), StaticRoute(ip_network("10.77.0.0/16"), gateway)),
        )

    def leave(self, network_id: str, endpoint_id: str, /) -> None:
        self.note("leave", network_id, endpoint_id)

    def delete_endpoint(self, network_id: str, endpoint_id: str, /) -> None:
        self.note("delete_endpoint", network_id, endpoint_id)


class FakeAgent:
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Plugin:
    """The app with fakes behind it."""

    def __init__(self) -> None:
        self.ipam, self.driver = FakeIpam(), FakeDriver()
        self.app = build_app(self.ipam, self.driver, FakeAgent())
        self.client: FlaskClient = self.app.test_client()

    @property
    def calls(self) -> list[tuple[object, ...]]:
        return [*self.ipam.calls, *self.driver.calls]

    def fail_with(self, error: Exception | None) -> None:
        self.ipam.error = self.driver.error = error
