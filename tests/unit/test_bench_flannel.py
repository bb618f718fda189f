"""What `make bench` says of flannel's udp backend where it cannot have it. With it the path proves itself by a ping."""

from pathlib import Path

import pytest

from tests.bench.datapaths import FLANNEL_UDP, Ways
from tests.bench.flannel_udp import PROGRAM, VARIABLE, Unavailable, source


def test_without_a_source_tree_the_path_is_missing_and_how_to_have_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    ways = Ways()
    ways.add(FLANNEL_UDP, lambda: pytest.fail(f"{source()} was found"))
    assert ways.paths == []
    assert ways.missing == [
        "no flannel's udp: it takes FLANNEL_SOURCE, the path of a source tree of flannel, whose C program is compiled"
    ]


def test_a_tree_that_is_not_flannels_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(Unavailable, match=f"FLANNEL_SOURCE is {tmp_path}, where there is no {PROGRAM}"):
        source()
    (tmp_path / PROGRAM).parent.mkdir(parents=True)
    (tmp_path / PROGRAM).touch()
    assert source() == tmp_path / PROGRAM
