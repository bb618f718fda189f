"""What is said when nft itself is the trouble."""

from pathlib import Path

import pytest

from driver import nft
from driver.errors import KernelError
from driver.nft import read_generation, read_ruleset


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("kill -SEGV $$", "nft list ruleset: it was ended by SIGSEGV: has a newer nft written rules on this host?"),
        ("echo no rights >&2; exit 1", "nft list ruleset: no rights$"),
        ("exit 3", "nft list ruleset: 3$"),
    ],
)
def test_an_nft_that_fails_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str) -> None:
    nft = tmp_path / "nft"
    nft.write_text(f"#!/bin/sh\n{script}\n")
    nft.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(KernelError, match=says):
        read_ruleset()


def test_a_kernel_without_netfilters_netlink_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "NETLINK_NETFILTER", 31)
    with pytest.raises(KernelError, match=r"^reading the number of nftables' ruleset: Protocol not supported$"):
        read_generation()
