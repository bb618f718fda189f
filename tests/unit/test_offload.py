"""Where the checksums of tunnelled packets are known to go wrong."""

from pathlib import Path

import pytest

from driver.offload import known_broken


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """As in /sys/class/net: bond0 over eth0, a vmxnet3 card; eth1, another one; br0 over nothing."""
    for card, driver in (("eth0", "vmxnet3"), ("eth1", "virtio_net")):
        (tmp_path / "drivers" / driver).mkdir(parents=True)
        (tmp_path / card / "device").mkdir(parents=True)
        (tmp_path / card / "device/driver").symlink_to(tmp_path / "drivers" / driver)
    (tmp_path / "bond0").mkdir()
    (tmp_path / "bond0/lower_eth0").symlink_to(tmp_path / "eth0")
    (tmp_path / "br0").mkdir()
    return tmp_path


@pytest.mark.parametrize(("dev", "broken"), [("eth0", True), ("bond0", True), ("eth1", False), ("br0", False)])
def test_by_the_card_below(devices: Path, dev: str, broken: bool) -> None:
    assert known_broken(dev, release="6.1.0-18-amd64", devices=devices) == broken


@pytest.mark.parametrize(
    ("release", "broken"),
    [("4.18.0-553.el8", True), ("5.6.19", True), ("5.7.0", False), ("6.1.0", False), ("odd", False)],
)
def test_by_the_kernel(devices: Path, release: str, broken: bool) -> None:
    assert known_broken("eth1", release=release, devices=devices) == broken
