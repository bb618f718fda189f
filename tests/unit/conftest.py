"""For all unit tests."""

from pathlib import Path

import pytest

from tests.unit.ipam_hosts import Cluster, Host


@pytest.fixture(autouse=True)
def service_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of this machine's own: the settings of a service, of which there are none yet."""
    path = tmp_path / "flannelpy.env"
    monkeypatch.setattr("plugin.flags.ENVIRONMENT", path)
    return path


@pytest.fixture
def cluster() -> Cluster:
    """For the tests of the address manager, and two of its hosts."""
    return Cluster()


@pytest.fixture
def a(cluster: Cluster) -> Host:
    return cluster.host("a")


@pytest.fixture
def b(cluster: Cluster) -> Host:
    return cluster.host("b")
