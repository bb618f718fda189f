"""Settings: one frozen dataclass, read once from the environment. A wrong value stops the start with one sentence."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from itertools import combinations
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from driver.backends import BACKENDS
from plugin import addresses
from plugin.paths import SOCKET, parse_path, parse_paths
from store.ip import IPAddress, IPNetwork, overlap

PREFIX = "FLANNELPY_"
SHORTEST_LEASE, LONGEST_LEASE = 6, 3_600_000  # seconds
RESOLVERS = "169.254.53.53,fda9:fe35:35::53"  # the second after the first, a9fe:3535 in hexadecimal
LEVELS = ("debug", "info", "warning", "error")
REQUIRED, OPTIONAL = "required", "optional"
_CONSUL_PORTS = {"consul": 8500, "consuls": 8501}  # Consul's own, without and with TLS
_HOST = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")
_CLUSTER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*(/[a-zA-Z0-9][a-zA-Z0-9._-]*)*")
_IFACE = re.compile(r"[^\s/:]{1,15}")


class SettingsError(Exception):
    """The message is one sentence that names the variable, its value and what is allowed."""


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """`sqlite`, or where a Consul agent listens."""

    scheme: str  # sqlite, consul, consuls
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}" if self.host else self.scheme


@dataclass(frozen=True, slots=True)
class PoolSource:
    """A range from which pools are cut when no --subnet is given, and their prefix length."""

    network: IPNetwork
    size: int


# parsers: text to value, or a ValueError that ends the sentence "FLANNELPY_X is 'text': ..."


def parse_store(text: str) -> StoreAddress:
    if text == "sqlite":
        return StoreAddress("sqlite")
    wrong = ValueError("it must be sqlite, consul://HOST:PORT or, for TLS, consuls://HOST:PORT")
    try:
        url = urlsplit(text)
        host, port = url.hostname or "", url.port
    except ValueError:
        raise wrong from None
    if url.scheme not in _CONSUL_PORTS or not re.fullmatch(r"[a-z0-9._:-]+", host):
        raise wrong
    if url.path.strip("/") or url.query or url.fragment or "@" in url.netloc or port == 0:
        raise wrong
    return StoreAddress(url.scheme, host, port or _CONSUL_PORTS[url.scheme])


def parse_cluster(text: str) -> str:
    if not _CLUSTER.fullmatch(text) or len(text) > 128:
        raise ValueError("it must be at most 128 letters, digits and ._-, in parts divided by / if you like")
    return text


def parse_host(text: str) -> str:
    if text and not _HOST.fullmatch(text):
        raise ValueError("it must be 1 to 63 letters, digits and ._-, beginning with a letter or digit")
    return text


def parse_iface(text: str) -> str | None:
    if text and (not _IFACE.fullmatch(text) or text in (".", "..")):
        raise ValueError("it must be the name of a network interface, at most 15 characters")
    return text or None


def parse_addresses(text: str) -> tuple[IPAddress, ...]:
    return _one_per_family(tuple(_address(part.strip()) for part in text.split(",")) if text else ())


def _one_per_family(found: tuple[IPAddress, ...]) -> tuple[IPAddress, ...]:
    if len({address.version for address in found}) < len(found):
        raise ValueError("it must be at most one address per family, with a comma between them")
    return found


def parse_pools(text: str) -> tuple[PoolSource, ...]:
    sources = tuple(_pool_source(part) for part in re.split(r"[;\s]+", text) if part)
    if not sources:
        raise ValueError("it must be one or more CIDR,size=N, separated by semicolons")
    for one, other in combinations(sources, 2):
        if overlap(one.network, other.network):
            raise ValueError(f"{one.network} and {other.network} overlap")
    return sources


def parse_block(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,2}", text, re.ASCII) or not 16 <= int(text) <= 30:
        raise ValueError("it must be a number from 16 to 30")
    return int(text)


def parse_engine(text: str) -> str:
    if not text.startswith("unix:///") or "\0" in text:
        raise ValueError("it must be unix:///PATH")
    return text


def parse_listener(text: str) -> tuple[str, int] | None:
    if text == "off":
        return None
    host, _, port = text.rpartition(":")
    try:
        address = addresses.address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    except ValueError:
        raise ValueError("it must be ADDRESS:PORT, such as 127.0.0.1:9470 or [::1]:9470, or off") from None
    if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not 0 < int(port) < 65536:
        raise ValueError("its port must be a number from 1 to 65535")
    return str(address), int(port)


def parse_switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("it must be true or false")
    return text == "true"


def parse_resolvers(text: str) -> tuple[IPAddress, ...]:
    if text == "off":
        return ()
    try:
        found = tuple(ip_address(part.strip()) for part in text.split(","))
    except ValueError:
        raise ValueError(f"it must be addresses that nothing else uses, such as {RESOLVERS}, or off") from None
    for address in found:
        if address.is_loopback or address.is_multicast or address.is_unspecified or _is_odd(address):
            raise ValueError(f"containers cannot reach {address}; take one such as {RESOLVERS}, or off")
    return _one_per_family(found)


def _is_odd(address: IPAddress) -> bool:
    """One of the future, or one that means something on each link."""
    return address.is_reserved or (address.version == 6 and address.is_link_local)


def parse_duration(text: str) -> float:
    """Seconds."""
    found = re.fullmatch(r"([0-9]{1,6})([smh])", text, re.ASCII)
    seconds = int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else 0
    if not SHORTEST_LEASE <= seconds <= LONGEST_LEASE:
        raise ValueError("it must be a time from 6s to 1000h, such as 90s, 30m or 24h")
    return float(seconds)


def _address(text: str) -> IPAddress:
    try:
        found = addresses.address(text)
        addresses.refuse_special(found)
    except ValueError as error:
        raise ValueError(f"{text!r} {error}") from None
    return found


def _pool_source(text: str) -> PoolSource:
    cidr, _, size = text.partition(",size=")
    try:
        network = addresses.network(cidr)
        addresses.refuse_special(network)
    except ValueError as error:
        raise ValueError(f"{cidr!r} {error}; it must read like 10.224.0.0/11,size=18") from None
    longest = network.max_prefixlen - 2
    if not re.fullmatch(r"[0-9]{1,3}", size, re.ASCII) or not network.prefixlen <= int(size) <= longest:
        raise ValueError(f"{text!r} needs ,size=N with N from {network.prefixlen} to {longest}")
    return PoolSource(network, int(size))


def one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"it must be one of {', '.join(allowed)}")
        return text

    return parse


def setting(name: str, default: str, parse: Callable[[str], Any], help_: str) -> Any:
    """A field that knows its variable. Defaults are text, too, so that help and plugin.json can show them."""
    metadata = {"env": PREFIX + name, "default": default, "parse": parse, "help": help_}
    return field(default=parse(default), metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    store: StoreAddress = setting(  # noqa: RUF009, the value is immutable
        "STORE",
        "sqlite",
        parse_store,
        "sqlite (this host alone), consul://HOST:PORT, or consuls://HOST:PORT for TLS",
    )
    cluster: str = setting("CLUSTER", "flannelpy", parse_cluster, "prefix of this cluster's keys in Consul")
    host: str = setting(
        "HOST", "", parse_host, "this host's name in the cluster; by default the host name at the first start"
    )
    iface: str | None = setting(
        "IFACE", "", parse_iface, "interface that carries the tunnels; by default the default route's"
    )
    address: tuple[IPAddress, ...] = setting(
        "ADDRESS", "", parse_addresses, "where other hosts send to: one address per family, comma between"
    )
    pools: tuple[PoolSource, ...] = setting(
        "POOLS",
        "10.224.0.0/11,size=18",
        parse_pools,
        "where pools come from without --subnet: CIDR,size=N, several separated by semicolons",
    )
    block: int = setting("BLOCK", "26", parse_block, "prefix length of the blocks that hosts hold, in IPv4's terms")
    backend: str = setting(
        "BACKEND", "vxlan", one_of(*BACKENDS), f"{' or '.join(BACKENDS)}, where -o backend= is absent"
    )
    encryption: str = setting(
        "ENCRYPTION",
        OPTIONAL,
        one_of(OPTIONAL, REQUIRED),
        "optional, or required: this host creates and joins no network whose backend does not encrypt",
    )
    lease_ttl: float = setting(
        "LEASE_TTL", "24h", parse_duration, "how long a silent host keeps its blocks: a number with s, m or h"
    )
    socket: tuple[Path, ...] = setting(
        "SOCKET",
        SOCKET,
        parse_paths,
        "where dockerd finds the plugin; commas between several paths",
    )
    state_dir: Path = setting(  # noqa: RUF009, the value is immutable
        "STATE_DIR", "/var/lib/flannelpy", parse_path, "directory of what this host must remember"
    )
    docker: str = setting(
        "DOCKER",
        "unix:///var/run/docker.sock",
        parse_engine,
        "the Engine's API, used only in the background: unix:///PATH",
    )
    propagate: bool = setting(
        "PROPAGATE",
        "true",
        parse_switch,
        "networks made on one host are made on all: true, or false for a host that takes no part",
    )
    http: tuple[str, int] | None = setting(
        "HTTP",
        "127.0.0.1:9470",
        parse_listener,
        "where health, metrics and the status page are served: ADDRESS:PORT, or off",
    )
    dns: tuple[IPAddress, ...] = setting(
        "DNS",
        RESOLVERS,
        parse_resolvers,
        "the resolver's addresses: one, or one of each family, that nothing else uses, or off",
    )
    log: str = setting("LOG", "info", one_of(*LEVELS), f"how much is logged: {', '.join(LEVELS)}")

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """An empty variable counts as absent: a managed plugin cannot unset one."""
        _refuse_unknown(environ)
        given = {f.name: f.metadata for f in fields(cls) if environ.get(f.metadata["env"])}
        values = {name: _parsed(environ, about["env"], about["parse"]) for name, about in given.items()}
        if values.get("encryption") == REQUIRED:
            values["backend"] = _encrypting(values.get("backend"))
        return cls(**values)

    def block_prefix(self, pool: IPNetwork) -> int:
        """A block's prefix length in this pool: blocks are equally large in both families."""
        return pool.max_prefixlen - (32 - self.block)


def _parsed(environ: Mapping[str, str], name: str, parse: Callable[[str], Any]) -> Any:
    text = environ[name]
    try:
        return parse(text)
    except ValueError as error:
        raise SettingsError(f"{name} is {text!r}: {error}") from None


def _encrypting(backend: str | None) -> str:
    """The backend of networks that name none, where it must encrypt."""
    allowed = [name for name, about in BACKENDS.items() if about.encrypts]
    if backend is not None and backend not in allowed:
        only = f"it must be {' or '.join(allowed)} where {PREFIX}ENCRYPTION is {REQUIRED!r}"
        raise SettingsError(f"{PREFIX}BACKEND is {backend!r}: {only}")
    return backend or allowed[0]


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    """A misspelt setting would silently mean its default, and that can be the wrong cluster."""
    known = [f.metadata["env"] for f in fields(Settings)]
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}? Known" if close else "known"
            raise SettingsError(
                f"{name} is {environ[name]!r}, but there is no such setting: {hint} are {', '.join(known)}"
            )
