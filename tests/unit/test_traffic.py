"""The bytes of containers: what moved while we looked, once."""

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from driver.model import Endpoint, Network
from operations.traffic import Traffic

WEB = ip_network("10.240.0.0/18")
NETWORK = Network("n1", (WEB,), (ip_address("10.240.0.1"),), "vxlan", 7, 8479, None, False, ())
OLD, NEW = (Endpoint(name, "n1", (), "") for name in ("old", "new"))


class Links:
    """Stands for /sys/class/net."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def set(self, endpoint: Endpoint, received: int, sent: int = 0) -> None:
        folder = self.root / endpoint.host_link / "statistics"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rx_bytes").write_text(f"{received}\n")
        (folder / "tx_bytes").write_text(f"{sent}\n")

    def rename(self, one: str, other: str) -> None:
        (self.root / one).rename(self.root / other)


@pytest.fixture
def links(tmp_path: Path) -> Links:
    return Links(tmp_path)


def looked(traffic: Traffic, *endpoints: Endpoint) -> tuple[int, int]:
    [(pool, counts)] = traffic.look([NETWORK], endpoints).items()
    assert pool == str(WEB)
    return counts


def test_a_restart_invents_no_traffic(links: Links) -> None:
    """A container that has run for a month has moved a terabyte, and not in this minute."""
    links.set(OLD, 1_000_000_000_000, 5)
    traffic = Traffic([NETWORK], [OLD], links.root)
    assert looked(traffic, OLD) == (0, 0)
    links.set(OLD, 1_000_000_000_100, 12)
    assert looked(traffic, OLD) == (100, 7)


def test_a_container_that_starts_meanwhile_is_counted_from_its_first_byte(links: Links) -> None:
    traffic = Traffic([NETWORK], [], links.root)
    links.set(NEW, 70, 30)
    assert looked(traffic, NEW) == (70, 30)
    assert looked(traffic) == (70, 30)  # and what it moved stays counted when it has gone


def test_what_is_missed_in_one_look_is_not_counted_twice(links: Links) -> None:
    traffic = Traffic([NETWORK], [], links.root)
    links.set(NEW, 70)
    assert looked(traffic, NEW) == (70, 0)
    assert looked(traffic) == (70, 0)  # its record is away for a moment
    assert looked(traffic, NEW) == (70, 0)
    links.rename(NEW.host_link, "else")  # somebody renamed it, and the reconciler names it back
    assert looked(traffic, NEW) == (70, 0)
    links.rename("else", NEW.host_link)
    links.set(NEW, 75)
    assert looked(traffic, NEW) == (75, 0)


def test_a_link_that_was_made_anew_counts_from_its_own_beginning(links: Links) -> None:
    traffic = Traffic([NETWORK], [], links.root)
    links.set(NEW, 70)
    looked(traffic, NEW)
    links.set(NEW, 10)
    assert looked(traffic, NEW) == (80, 0)
