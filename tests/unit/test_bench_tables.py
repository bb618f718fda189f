"""What `make bench` makes of its samples."""

from pathlib import Path

import pytest

from tests.bench import plots, report, results
from tests.bench.figures import FIGURES
from tests.bench.results import Result
from tests.bench.samples import Note, Row, in_turns, ratio, shown


def test_a_target_is_met_at_the_median_and_where_asked_at_the_99th_percentile() -> None:
    samples = [1.0, 2.0, 9.0]
    assert Row("a", "ms", samples, most=2.0).met
    assert not Row("a", "ms", samples, most=2.0, p99_most=8.9).met
    assert Row("a", "ms", samples, least=2.0).met
    assert not Row("a", "ms", samples, least=2.1).met
    assert Row("a", "ms", samples).verdict == ""


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that was slow in one round was slow for both."""
    found = ratio(Row("ours", "ms", [2.0, 20.0, 4.0]), Row("theirs", "ms", [1.0, 10.0, 4.0]), most=1.1)
    assert found.samples == [2.0, 2.0, 1.0]
    assert (found.what, found.verdict) == ("ours / theirs", "MISSED")


def test_each_thing_is_first_in_turn() -> None:
    assert list(in_turns("abc", 4)) == list("abcbcacababc")


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.00"), (0.0123, "0.012"), (3.456, "3.46"), (34.56, "34.6"), (3456.7, "3457")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert shown(value) == text


def test_a_page_and_its_pictures_are_made_of_what_was_kept(tmp_path: Path) -> None:
    rows = {
        "throughput": [Row("vxlan", "Gbit/s", [9.0, 9.5]), Row("vxlan / host-gw", "ratio", [0.5, 0.6], least=0.9)],
        "windows": [
            Row(path, "Gbit/s", [size], at) for path in ("vxlan", "host-gw") for at, size in (("8K", 1.0), ("16K", 2.0))
        ],
    }
    kept = {name: Result("2026-01-31", "one processor", some, [Note("a remark")]) for name, some in rows.items()}
    results.write(tmp_path, kept)
    assert results.read(tmp_path) == kept
    page = report.page(kept)
    assert "| TCP throughput | vxlan / host-gw | 0.55 (0.50-0.60) | at least 0.9 | **MISSED** |" in page
    assert "| socket buffers | vxlan, Gbit/s | host-gw, Gbit/s |" in page
    assert "| 16K | 2.00 (2.00-2.00) | 2.00 (2.00-2.00) |" in page
    assert "* a remark" in page
    for name, some in rows.items():
        plots.draw(FIGURES[name], some, tmp_path / f"{name}.svg")
        assert ">vxlan<" in (tmp_path / f"{name}.svg").read_text()


def test_every_figure_says_what_it_is() -> None:
    assert [name for name, figure in FIGURES.items() if not figure.measure.__doc__] == []
