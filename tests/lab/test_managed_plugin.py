"""flannelpy as a managed plugin: built from the Dockerfile, and what is typed at `docker plugin` with it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import managed, requirements
from tests.lab.cluster import FLANNELPY, POOL, Cluster, PingStream, fast_links, side_by_side
from tests.lab.commands import run, wait_until
from tests.lab.docker_host import PLUGIN_SOCKET
from tests.lab.images import ROOT
from tests.lab.lab import Lab

LARGEST = 160  # MB: what the README says, with some room for Debian's updates


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Two hosts and a Consul, flannelpy not installed."""
    if sentence := managed.missing():
        (pytest.fail if requirements.demanded() else pytest.skip)(sentence)
    with Lab(hosts=2, dockerd_config={"dns": ["169.254.53.53"]}) as lab:
        yield Cluster(lab)


def listed_by_a_release(plugin: Path, sbom: Path) -> set[str]:
    """The Debian packages, as `make release` adds them to its list of what is in it."""
    sbom.write_text('{"components": []}')
    run(str(ROOT / "scripts/sbom"), str(sbom), str(plugin / "rootfs"))
    return {part["name"] for part in json.loads(sbom.read_text())["components"]}


@pytest.mark.timeout(420)
def test_the_managed_plugin_from_its_build_to_its_removal(cluster: Cluster, tmp_path: Path) -> None:
    one, other = cluster.hosts
    plugin = tmp_path / "plugin"
    managed.build(one, plugin)
    assert sum(path.lstat().st_size for path in plugin.rglob("*")) < LARGEST * 1e6
    assert {"python3", "nftables", "libc6"} <= listed_by_a_release(plugin, tmp_path / "sbom.json")
    programs = {path.name for path in plugin.glob("rootfs/usr/bin/*")}
    assert programs & {"python3", "cc", "gcc", "ld", "as", "make"} == {"python3"}

    settings = {"FLANNELPY_STORE": cluster.consul.url}
    no_tun = {"tun.path": "/dev/null"}
    side_by_side(
        lambda todo: managed.install(*todo), [(one, plugin, settings), (other, plugin, {**settings, **no_tun})]
    )

    # Typed without a tag; the other host gets it from the agent, through the Engine's API.
    one.docker("network", "create", *FLANNELPY, "-o", "fast-path=true", "--subnet", POOL, "web")
    wait_until("the network on the other host", lambda: other.docker_ok("network", "inspect", "web"), timeout=15)
    first, second = cluster.run_everywhere(1, "web")
    assert cluster.unreached([first, second]) == []
    assert [len(fast_links(host)) for host in cluster.hosts] == [2, 2]

    # The commands, installed on the host, talk to the plugin.
    assert one.name in one.flannelpy_command("status")
    assert "nothing wrong was found" in one.flannelpy_command("doctor")

    with PingStream(first, second.address) as stream:
        other.docker("plugin", "disable", managed.NAME)
        other.docker("plugin", "set", managed.NAME, "FLANNELPY_LOG=debug")
        other.docker("plugin", "enable", managed.NAME)
        stream.await_more(20)
        # An update: another build of the same name. The host's name and its addresses are in the state directory.
        managed.remove(one)
        managed.install(one, plugin, settings)
        stream.await_more(20)
    assert stream.lost() == []

    third = cluster.run(one, "third", "web")
    assert third.address not in (first.address, second.address)
    assert cluster.unreached([first, second, third]) == []

    side_by_side(lambda host: host.remove_containers(), cluster.hosts)
    other.docker("network", "rm", "web")
    wait_until("the network's removal", lambda: not one.docker_ok("network", "inspect", "web"), timeout=15)
    for host in cluster.hosts:
        managed.remove(host)
        assert not host.path(PLUGIN_SOCKET).exists()
