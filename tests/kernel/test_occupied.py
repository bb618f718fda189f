"""What a pool must keep clear of, as a host's kernel and its files have it."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from driver.occupied import name_servers, prefixes
from tests.kernel.conftest import NamespaceHost

TAKEN = {
    "10.224.0.0/20 dev eth0": "10.224.0.0/20",
    "10.224.64.0/24 via 192.0.2.2": "10.224.64.0/24",
    "10.224.128.0/24 dev eth0 table 77": "10.224.128.0/24",
    "10.224.192.0/24 via 192.0.2.2 table 70000": "10.224.192.0/24",
    "blackhole 10.225.0.0/24": "10.225.0.0/24",
    "unreachable 10.225.64.0/24 table 77": "10.225.64.0/24",
    "fd77::/64 dev eth0 table 77": "fd77::/64",
}
IGNORED = ("0.0.0.0/1 via 192.0.2.2", "10.226.0.0/24 dev eth0 proto 0x66")


def test_routes_of_every_table_addresses_and_name_servers_are_in_use(
    two_hosts: tuple[NamespaceHost, NamespaceHost], tmp_path: Path
) -> None:
    host, _ = two_hosts
    before = {*prefixes(host.name, tmp_path)}
    assert ip_network("192.0.2.0/24") in before
    for route in (*TAKEN, *IGNORED):
        host.ip("route", "add", *route.split())
    write(tmp_path / "etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0\n")
    write(tmp_path / "run/systemd/resolve/resolv.conf", "nameserver 10.227.0.53\nnameserver fe80::1%eth0\n")
    asked = {"127.0.0.53/32", "10.227.0.53/32", "fe80::1/128"}
    assert {*prefixes(host.name, tmp_path)} - before == {*map(ip_network, [*TAKEN.values(), *asked])}


@pytest.mark.parametrize("text", ["", "nameserver", "nameserver nobody", "# nameserver 10.0.0.1", "search nameserver"])
def test_what_names_no_server_is_passed_over(tmp_path: Path, text: str) -> None:
    write(tmp_path / "etc/resolv.conf", f"{text}\nnameserver 10.0.0.2\n")
    assert name_servers(tmp_path) == [ip_network("10.0.0.2/32")]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)
