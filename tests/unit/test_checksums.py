"""Many wrong checksums are told of, where there is a tunnel."""

import pytest

from driver import checksums
from driver.checksums import Checksums


@pytest.mark.parametrize(("tunnel", "counts", "told"), [(True, [5, 6, 16, 16, 40], 2), (False, [5, 6, 16, 16, 40], 0)])
def test_each_time_many_came(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tunnel: bool, counts: list[int], told: int
) -> None:
    left = iter(counts)
    monkeypatch.setattr(checksums, "wrong", lambda: next(left))
    looker = Checksums(lambda: tunnel)
    for _ in counts[1:]:
        looker.look()
    assert [record.message.endswith("-o checksum-offload=off") for record in caplog.records] == [True] * told
