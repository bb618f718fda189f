"""All that is asked of the kernel: reading what is ours, changing it, and looking at the host's own network.

Errors leave as KernelError, with the operation as an operator would type it."""

import errno
import os
import socket
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from ipaddress import ip_network
from itertools import groupby, islice
from types import TracebackType
from typing import Self

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from driver import host_network
from driver.backends.interface import Underlay
from driver.errors import KernelError
from driver.fast_path.program import program
from driver.host_network import LinkSeen
from driver.kernel.links import add_link, endpoint_mac, put_link, put_state, read_network_link, rename, tunnels
from driver.kernel.namespaces import within
from driver.kernel.pairs import Pair, numbers
from driver.kernel.programs import Programs
from driver.kernel.rawsocket import RawSocket
from driver.kernel.seen import link_of, switches_of
from driver.kernel.tables import ALREADY_GONE, Packed, Tables, is_packed
from driver.model import ENDPOINT_LINK, NETWORK_LINK
from driver.one_by_one import one_by_one
from driver.plan import Operation, Put
from driver.state import (
    Address,
    BridgeLink,
    EndpointLink,
    FastPath,
    LinkState,
    LinkSwitches,
    Object,
    State,
    VxlanLink,
    state_of,
)
from driver.sysctl import guard_endpoint
from store.ip import IPAddress, IPNetwork

PROBE = "flcp"  # like a container's link, whose coming and going concerns nobody
NETLINK_XFRM, GET_POLICY = 6, 0x15  # linux/xfrm.h
NUMBERS = numbers()  # of all pairs of this process
ATTEMPTS = 3
SAMPLE = ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")


class Kernel:
    """For one thread. `netns` names a network namespace other than the caller's."""

    def __init__(self, netns: str | None = None) -> None:
        self._netns = netns
        self._ip = IPRoute(netns=netns) if netns else IPRoute()
        try:
            self._tables = Tables(netns)
            self._programs = Programs(netns)
        except OSError:
            self._ip.close()
            raise
        self._indexes: dict[str, int] = {}  # of links, as long as this socket makes and removes none

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._programs.close()
        self._tables.close()
        self._ip.close()

    def forget_links(self) -> None:
        """Others may have made and removed links since this socket last looked."""
        self._indexes.clear()

    # reading

    def read(self) -> State:
        """All objects of ours, as they are.

        One question for all links: one asked for by its number may be gone with its container before the answer."""
        with _explained("reading the kernel's tables"):
            links = self._links()
            names = {link.index: link.name for link, _ in links}
            self._indexes = {name: index for index, name in names.items()}
            ours = {index: name for index, name in names.items() if name.startswith((NETWORK_LINK, ENDPOINT_LINK))}
            networks = {index: name for index, name in ours.items() if name.startswith(NETWORK_LINK)}
            return {
                **state_of(_objects((link, raw) for link, raw in links if link.index in ours)),
                **state_of(self._addresses(ours)),
                **self._tables.neighbours(networks),
                **self._tables.routes(names),
                **state_of(self._programs.read(names)),
            }

    def _links(self) -> list[tuple[LinkSeen, bytes]]:
        return [(link_of(raw), raw) for raw in self._tables.links()]

    def _names(self) -> dict[int, str]:
        return {link.index: link.name for link, _ in self._links()}

    def _addresses(self, ours: dict[int, str]) -> Iterator[Object]:
        for seen in self._tables.addresses():
            if seen.index in ours and not seen.interface.ip.is_link_local:
                yield Address(ours[seen.index], seen.interface)

    # changing

    def apply(self, operation: Operation) -> None:
        """Carry out one operation; doing it twice is fine."""
        for error in self.apply_all([operation]).values():
            raise KernelError(error)

    def apply_all(self, operations: Iterable[Operation]) -> dict[Operation, str]:
        """Carry out many, in their order; what failed, and why. One that failed keeps none of the others back."""
        failed: dict[Operation, str] = {}
        for (in_tables, _), some in groupby(operations, lambda each: (is_packed(each), isinstance(each, Put))):
            if in_tables:
                with _explained("changing the kernel's tables"):
                    failed |= self._tables.change(list(some), self._index, self._names)
                continue
            failed |= one_by_one(self._apply_one, some)
        return failed

    def _apply_one(self, operation: Operation) -> None:
        with _explained(str(operation)):
            if isinstance(operation, Put):
                self._put(operation.object)
            else:
                self._drop(operation.object)

    def _put(self, o: Object) -> None:
        match o:
            case EndpointLink():
                raise KernelError(f"the link {o.dev} is gone; its container must be connected again")
            case VxlanLink() | BridgeLink():
                self._indexes.pop(o.dev, None)
                put_link(self._ip, self._links, o)
            case LinkState():
                put_state(self._ip, self._index(o.dev), o)
            case LinkSwitches():
                within(self._netns, lambda: guard_endpoint(o.dev, proxy_arp=o.proxy_arp, leads_out=o.leads_out))
            case FastPath():
                self._programs.put(o, self._index(o.dev))

    def _drop(self, o: Object) -> None:
        try:
            match o:
                case VxlanLink() | BridgeLink() | EndpointLink():
                    self._ip.link("del", index=self._index(o.dev))
                    del self._indexes[o.dev]
                case FastPath():
                    self._programs.drop(o, self._index(o.dev))
                case LinkState() | LinkSwitches():
                    pass  # goes with its link
        except NetlinkError as error:
            if error.code not in ALREADY_GONE:
                raise

    def add_wireguard(self, name: str) -> bool:
        """A WireGuard link, or False where this kernel has no WireGuard."""
        with _explained(f"+ link {name} type wireguard"):
            try:
                self._indexes.pop(name, None)
                add_link(self._ip, name, kind="wireguard")
            except NetlinkError as error:
                if error.code != errno.EOPNOTSUPP:
                    raise
                return False
            return True

    def _index(self, name: str) -> int:
        if name not in self._indexes:
            try:
                # Unlike a question by netlink, this one does not wait while others change links.
                self._indexes[name] = within(self._netns, partial(socket.if_nametoindex, name))
            except OSError:
                raise KernelError(f"there is no interface {name}") from None
        return self._indexes[name]

    # endpoints

    def add_veth(
        self,
        host_link: str,
        container_link: str,
        mtu: int,
        objects: Sequence[Packed] = (),
        segments: int | None = None,
    ) -> None:
        """A pair of links, the host's end up and with `objects`; what is left of an earlier one goes first.

        The container's TCP makes packets of that many `segments` at most."""
        pair = Pair(host_link, container_link, mtu, endpoint_mac(host_link), segments)
        with _explained(f"+ {pair}"):
            self._indexes[host_link], complete = self._make_pair(pair, objects)
        if complete:
            return
        for error in self.apply_all(map(Put, objects)).values():
            raise KernelError(error)

    def _make_pair(self, pair: Pair, objects: Sequence[Packed]) -> tuple[int, bool]:
        """The number of the host's end, and whether all objects are there."""
        for index in islice(NUMBERS, ATTEMPTS):
            code, complete = self._tables.make_pair(pair, index, objects)
            if code == 0:
                return index, complete
            if code not in (errno.EEXIST, errno.EBUSY):  # the name or the number is taken
                break
            self._delete_link(pair.host_link)
            self._delete_link(pair.container_link)
        raise NetlinkError(code, os.strerror(code))

    def rename_back(self, names: Collection[str]) -> bool:
        """Give the hosts' ends of pairs their names again, where somebody has renamed them; whether there were any."""
        if not names:
            return False
        own = {endpoint_mac(name): name for name in names}
        lost = [link for link, _ in self._links() if link.kind == "veth" and own.get(link.mac, link.name) != link.name]
        for link in lost:
            with _explained(f"~ link {link.name} name {own[link.mac]}"):
                self._indexes.clear()
                rename(self._ip, link.index, own[link.mac])
        return bool(lost)

    def links_of(self, kind: str) -> list[str]:
        with _explained("reading links"):
            return [link.name for link, _ in self._links() if link.kind == kind]

    def rename_link(self, old: str, new: str) -> None:
        """It is down then."""
        with _explained(f"~ link {old} name {new}"):
            index = self._index(old)
            self._indexes.clear()
            rename(self._ip, index, new)

    def delete_link(self, name: str) -> None:
        """Remove a link of ours; one that does not exist is fine."""
        with _explained(f"- link {name}"):
            self._delete_link(name)

    def _delete_link(self, name: str) -> None:
        self._indexes.pop(name, None)
        try:
            self._ip.link("del", ifname=name)
        except NetlinkError as error:
            if error.code not in ALREADY_GONE:
                raise

    def fast_path_refusal(self) -> str | None:
        """Why this kernel has no fast path, or does not let this process make one; None if it works: on a link of our
        own, for a moment."""
        probe = f"{PROBE}{os.getpid()}"
        try:
            with _explained(f"+ link {probe} type veth"):
                add_link(self._ip, probe, kind="veth", peer={"ifname": f"{probe}b"})
            self.apply(Put(FastPath(probe, "probe", program((SAMPLE,)))))
        except KernelError as error:
            return str(error)
        finally:
            with suppress(KernelError):
                self.delete_link(probe)
        return None

    def has_ipsec(self) -> bool:
        """Whether packets of this host meet policies of IPsec."""
        with _explained("reading the policies of IPsec"):
            try:
                policies = RawSocket(self._netns, NETLINK_XFRM)
            except OSError as error:
                if error.errno == errno.EPROTONOSUPPORT:
                    return False
                raise
            try:
                return bool(policies.dump(GET_POLICY, b""))
            finally:
                policies.close()

    # the host's own network

    def underlay(
        self, dev: str | None, advertised: tuple[IPAddress, ...], kept: tuple[IPAddress, ...] = ()
    ) -> Underlay:
        """The interface to other hosts: the named one, else the one with an advertised address, else the default
        route's. Of its addresses, those that are `kept` are used for as long as they are there."""
        with _explained("looking for the underlay interface"):
            links, addresses = [link for link, _ in self._links()], self._tables.addresses()
            return host_network.underlay(links, addresses, self._tables.host_routes(), dev, advertised, kept)

    def foreign_tunnels(self) -> set[tuple[int, int]]:
        """VNI and port of each VXLAN device of this host that is not ours."""
        with _explained("reading VXLAN devices"):
            found = tunnels(self._links())
        return {used for name, used in found.items() if not name.startswith(NETWORK_LINK)}

    def prefixes_in_use(self) -> list[IPNetwork]:
        """What routes and interfaces of this host already cover."""
        with _explained("reading routes and addresses"):
            return host_network.prefixes_in_use(self._tables.addresses(), self._tables.destinations())


class KeptKernel:
    """A socket for each thread that asks, kept: a request does not pay for opening one. For a few lasting threads."""

    def __init__(self) -> None:
        self._own = threading.local()

    @contextmanager
    def __call__(self) -> Iterator[Kernel]:
        kernel: Kernel = getattr(self._own, "kernel", None) or Kernel()
        self._own.kernel = None  # not kept if something other than the kernel's own no happens
        kernel.forget_links()
        try:
            yield kernel
        except KernelError:
            self._own.kernel = kernel
            raise
        except BaseException:
            kernel.close()
            raise
        self._own.kernel = kernel


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        said = f"{what}: the kernel says {error.args[1]} ({errno.errorcode.get(error.code)})"
        if error.code == errno.EOPNOTSUPP and what.startswith("+ link"):
            said += "; it lacks links of that type: load the kernel module, or choose another -o backend="
        raise KernelError(said) from error
    except OSError as error:
        raise KernelError(f"{what}: {error}") from error


def _objects(ours: Iterable[tuple[LinkSeen, bytes]]) -> Iterator[Object]:
    for link, raw in ours:
        is_network = link.name.startswith(NETWORK_LINK)
        yield read_network_link(link, raw) if is_network else EndpointLink(link.name)
        yield LinkState(link.name, link.mtu, link.up, link.ported)
        if not is_network:
            yield switches_of(raw, link.name)
