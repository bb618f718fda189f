"""The `-o` options of a network: what is known, what is allowed, and a sentence for everything else."""

from collections.abc import Mapping
from dataclasses import dataclass

from driver.backends import BACKENDS
from driver.errors import BadRequest

MTU, DOCKER_MTU = "mtu", "com.docker.network.driver.mtu"
DIRECT_ROUTING, CHECKSUM_OFFLOAD, FAST_PATH = "direct-routing", "checksum-offload", "fast-path"
KNOWN = ("backend", CHECKSUM_OFFLOAD, DIRECT_ROUTING, FAST_PATH, "gateway", MTU, "port", "vni", DOCKER_MTU)
SPECIAL = {DIRECT_ROUTING: ("vxlan",), CHECKSUM_OFFLOAD: ("vxlan",), FAST_PATH: ("vxlan", "host-gw")}
GWBRIDGE, DIRECT = GATEWAYS = ("gwbridge", "direct")
LARGEST_VNI = (1 << 24) - 1
SMALLEST_MTU = {4: 576, 6: 1280}
LARGEST_MTU = 65535


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for; None where nothing was said."""

    backend: str | None = None
    vni: int | None = None
    port: int | None = None
    mtu: int | None = None
    gateway: str | None = None
    direct_routing: bool | None = None
    checksum_offload: str | None = None
    fast_path: bool | None = None


def parse(given: Mapping[str, str], has_ipv6: bool) -> Options:
    unknown = sorted(set(given) - set(KNOWN))
    if unknown:
        raise BadRequest(f"unknown option {', '.join(unknown)}; known: {', '.join(KNOWN)}")
    backend = given.get("backend")
    if backend is not None and backend not in BACKENDS:
        raise BadRequest(f"-o backend={backend}: must be one of {', '.join(BACKENDS)}")
    gateway = given.get("gateway")
    if gateway is not None and gateway not in GATEWAYS:
        raise BadRequest(f"-o gateway={gateway}: must be one of {', '.join(GATEWAYS)}")
    if MTU in given and given.get(DOCKER_MTU, given[MTU]) != given[MTU]:
        raise BadRequest(f"-o mtu={given[MTU]} and -o {DOCKER_MTU}={given[DOCKER_MTU]} contradict each other")
    mtu = MTU if MTU in given else DOCKER_MTU
    options = Options(
        backend,
        _number(given, "vni", 1, LARGEST_VNI),
        _number(given, "port", 1, 65535),
        _number(given, mtu, SMALLEST_MTU[6 if has_ipv6 else 4], LARGEST_MTU),
        gateway,
        _switch(given, DIRECT_ROUTING),
        _choice(given, CHECKSUM_OFFLOAD, "auto", "on", "off"),
        _switch(given, FAST_PATH),
    )
    if backend == "host-gw" and options.port is not None:
        raise BadRequest(f"-o port={options.port}: host-gw has no tunnel and so no port")
    for name, backends in SPECIAL.items():
        if name in given and backend not in (None, *backends):
            raise BadRequest(
                f"-o {name}={given[name]}: this option is for backend {' or '.join(backends)}, not {backend}"
            )
    return options


def _switch(given: Mapping[str, str], name: str) -> bool | None:
    return {None: None, "true": True, "false": False}[_choice(given, name, "true", "false")]


def _choice(given: Mapping[str, str], name: str, *allowed: str) -> str | None:
    if name in given and given[name] not in allowed:
        raise BadRequest(f"-o {name}={given[name][:20]}: must be one of {', '.join(allowed)}")
    return given.get(name)


def _number(given: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    if name not in given:
        return None
    text = given[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 8 and least <= int(text) <= most):
        raise BadRequest(f"-o {name}={text[:20]}: must be a number from {least} to {most}")
    return int(text)
