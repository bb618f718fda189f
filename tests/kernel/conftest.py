"""Two hosts as network namespaces in this process's kernel: no Docker, no daemon, only the door to netlink."""

import ctypes
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from driver.kernel import Kernel

R = TypeVar("R")
NEW_NETWORK = 0x40000000  # CLONE_NEWNET


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.kernel)


def ip(*words: str, netns: str | None = None) -> str:
    command = ["ip", *(("-n", netns) if netns else ()), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def inside(namespace: str, task: Callable[[], R]) -> R:
    """Run in a thread of its own that has gone there; what it opens and starts stays there."""

    def go_and_do() -> R:
        with open(f"/run/netns/{namespace}") as place:
            if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), NEW_NETWORK) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        return task()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(go_and_do).result()


@dataclass(frozen=True)
class NamespaceHost:
    name: str
    kernel: Kernel

    def ip(self, *words: str) -> str:
        return ip(*words, netns=self.name)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["ip", "netns", "exec", self.name, *words], capture_output=True, text=True, timeout=20)

    def pings(self, address: object, *, size: int = 56, wait: float = 2) -> bool:
        return self.run("ping", "-c", "1", "-W", str(wait), "-M", "do", "-s", str(size), str(address)).returncode == 0


@pytest.fixture
def two_hosts() -> Iterator[tuple[NamespaceHost, NamespaceHost]]:
    insist_on_root()
    with cabled() as hosts:
        yield hosts


def insist_on_root() -> None:
    if os.geteuid() != 0:
        needs = "network namespaces need root"
        demanded = os.environ.get("CI") or os.environ.get("LAB_REQUIRED")
        (pytest.fail if demanded else pytest.skip)(needs)


@contextmanager
def cabled() -> Iterator[tuple[NamespaceHost, NamespaceHost]]:
    """Two network namespaces joined by a cable: 192.0.2.1 -- 192.0.2.2 and fd00:1::1 -- fd00:1::2."""
    names = [f"fk{uuid.uuid4().hex[:8]}" for _ in range(2)]
    for name in names:
        ip("netns", "add", name)
    try:
        ip("link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for number, name in enumerate(names, start=1):
            # Without this, a link cannot resolve an IPv6 neighbour in the second after it came up.
            for link in ("default", "eth0"):
                switch = f"/proc/sys/net/ipv6/conf/{link}/accept_dad"
                subprocess.run(["ip", "netns", "exec", name, "sh", "-c", f"echo 0 > {switch}"], check=True)
            for words in (
                f"addr add 192.0.2.{number}/24 dev eth0",
                f"addr add fd00:1::{number}/64 dev eth0 nodad",
                "link set lo up",
                "link set eth0 up",
                "route add default via 192.0.2.254",
            ):
                ip(*words.split(), netns=name)
        with Kernel(names[0]) as first, Kernel(names[1]) as second:
            yield NamespaceHost(names[0], first), NamespaceHost(names[1], second)
    finally:
        for name in names:
            ip("netns", "del", name)
