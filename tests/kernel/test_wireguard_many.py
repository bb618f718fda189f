"""Many WireGuard peers at once: few processes, and each error with the operation that it is about."""

import os
import secrets
import signal
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from driver import wireguard_tool
from driver.backends.interface import Remote
from driver.doors import Doors
from driver.entries import AllowedIp, WireguardPeer
from driver.plan import Operation, Put, plan
from store.ip import IPNetwork
from tests.kernel.conftest import cabled
from tests.kernel.test_wireguard import ADDRESSES, DEV, WireguardHost, processes_or_skip, tools, wireguard_host

__all__ = ["tools"]  # a fixture

MANY = 120  # more than go into one `wg`
POOL = ip_network("10.128.0.0/12")


def strangers() -> list[Remote]:
    address = ip_address("192.0.2.3")  # nobody is there
    blocks: Iterator[IPNetwork] = iter(POOL.subnets(new_prefix=26))
    keys = (b64encode(secrets.token_bytes(32)).decode() for _ in range(MANY))
    return [Remote(key, (address,), (block,), key) for key, block in zip(keys, blocks, strict=False)]


@pytest.fixture
def host(tools: None, tmp_path: Path) -> Iterator[WireguardHost]:
    if os.geteuid() != 0:
        demanded = os.environ.get("CI") or os.environ.get("LAB_REQUIRED")
        (pytest.fail if demanded else pytest.skip)("network namespaces need root")
    with cabled() as (here, _), wireguard_host(here, 0, tmp_path) as made:
        yield made


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Those of WireGuard that were run."""
    seen: list[tuple[str, ...]] = []
    run = wireguard_tool.run

    def counted(*command: str, stdin: str = "", enter: tuple[str, ...] = ()) -> str:
        seen.append(command)
        return run(*command, stdin=stdin, enter=enter)

    monkeypatch.setattr(wireguard_tool, "run", counted)
    return seen


def doors(host: WireguardHost) -> Doors:
    return Doors(host.base.kernel, [host.door])


def test_many_peers_take_few_processes(host: WireguardHost, commands: list[tuple[str, ...]]) -> None:
    remotes = strangers()
    turned = [replace(one, blocks=other.blocks) for one, other in zip(remotes, [*remotes[1:], remotes[0]], strict=True)]
    for wanted in (remotes, turned, []):
        host.wants(*wanted)
        commands.clear()
        host.settle()
        assert len([command for command in commands if command[:2] == ("wg", "set")]) <= 5
        assert host.settle() == []


def test_the_refused_ones_are_found_among_many(host: WireguardHost) -> None:
    remotes = strangers()
    host.wants(*remotes)
    bad: list[WireguardPeer | AllowedIp] = [
        WireguardPeer(DEV, "no key", "192.0.2.9:1"),
        AllowedIp(DEV, ip_network("10.0.0.0/26"), "no key"),
    ]
    good = plan(doors(host).read(), host.goal)
    peer = next(place for place, operation in enumerate(good) if isinstance(operation.object, WireguardPeer))
    prefix = next(place for place, operation in enumerate(good) if isinstance(operation.object, AllowedIp))
    operations: list[Operation] = [
        *good[: peer + 60],
        Put(bad[0]),
        *good[peer + 60 : prefix + 80],
        Put(bad[1]),
        *good[prefix + 80 :],
    ]
    failed = doors(host).apply_all(operations)
    assert list(failed) == [Put(o) for o in bad]
    assert all(
        f"wg set {DEV} peer 'no key'" in error and "Key is not the correct" in error for error in failed.values()
    )
    assert plan(doors(host).read(), host.goal) == []


def test_a_process_that_falls_silent_costs_one_wait(
    host: WireguardHost, commands: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    host.wants()
    host.settle()
    (pid,) = processes_or_skip(host)
    host.wants(*strangers())
    operations = [operation for operation in plan(doors(host).read(), host.goal) if operation.object.dev == DEV]
    told = [operation for operation in operations if isinstance(operation.object, WireguardPeer | AllowedIp)]
    commands.clear()
    os.kill(pid, signal.SIGSTOP)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(wireguard_tool, "TIMEOUT", 0.5)
            failed = host.door.apply_all(told)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert list(failed) == told
    assert all(DEV in error and "no answer in" in error and len(error) < 600 for error in failed.values())
    assert len(commands) == 1
    host.settle()
    assert host.settle() == []


def test_a_link_that_goes_away_meanwhile_is_not_asked_for_each_peer(
    host: WireguardHost, commands: list[tuple[str, ...]]
) -> None:
    host.wants()
    host.settle()
    host.wants(*strangers())
    told = [o for o in plan(doors(host).read(), host.goal) if isinstance(o.object, WireguardPeer | AllowedIp)]
    host.ip("link", "del", DEV)
    commands.clear()
    assert list(host.door.apply_all(told)) == told
    assert len(commands) == 1
    host.settle()
    assert host.settle() == []


def test_a_peer_keeps_its_session_while_many_others_come_and_go(tools: None, tmp_path: Path) -> None:
    with (
        cabled() as (one, two),
        wireguard_host(one, 0, tmp_path) as a,
        wireguard_host(two, 1, tmp_path) as b,
    ):
        a.wants(b.remote())
        b.wants(a.remote())
        a.settle()
        b.settle()
        assert b.reaches(a)
        session = next(line for line in a.run("wg", "show", DEV, "latest-handshakes").splitlines())
        for others in (strangers(), []):
            a.wants(*others, b.remote())
            a.settle()
            assert session in a.run("wg", "show", DEV, "latest-handshakes").splitlines()
            assert a.endpoint_of(b).startswith(str(ADDRESSES[1][0]))
        assert b.reaches(a)
