"""Many wrong checksums are told of, where there is a tunnel."""

from pathlib import Path

import pytest

from driver import checksums
from driver.checksums import Checksums


def test_both_families_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "IPV4": "Ip: A\nIp: 1\nUdp: InDatagrams InCsumErrors\nUdp: 5 2\nUdpLite: X\nUdpLite: 1\n",
        "IPV6": "Ip6InReceives \t216\nUdp6InCsumErrors \t3\nUdpLite6InCsumErrors \t7\n",
    }.items():
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(checksums, name, tmp_path / name)
    assert checksums.wrong() == 5


@pytest.mark.parametrize(("tunnel", "counts", "told"), [(True, [5, 6, 16, 16, 40], 2), (False, [5, 6, 16, 16, 40], 0)])
def test_each_time_many_came(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tunnel: bool, counts: list[int], told: int
) -> None:
    left = iter(counts)
    monkeypatch.setattr(checksums, "wrong", lambda: next(left))
    looker = Checksums(lambda: tunnel)
    many = []
    for _ in counts[1:]:
        looker.look()
        many.append(looker.many)
    assert many == ([0, 10, 0, 24] if tunnel else [0, 0, 0, 0])
    assert [record.message.endswith("-o checksum-offload=off") for record in caplog.records] == [True] * told
