"""The pictures: a bar for each thing, or a line over the points of a swept figure. The only file that draws."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from tests.bench.figures import Figure
from tests.bench.samples import RATIO, Row


def draw(figure: Figure, rows: Sequence[Row], path: Path) -> None:
    """An SVG that is the same for the same rows. Only rows of the first one's unit: others are in the table."""
    kept = [row for row in rows if row.unit == rows[0].unit != RATIO and not row.what.startswith("p99")]
    with mpl.rc_context():
        mpl.rc("svg", fonttype="none", hashsalt="flannelpy")
        mpl.rc("font", size=9)
        drawing = Drawing(figsize=(7.5, 3.4), layout="constrained")
        axes = drawing.subplots()
        (lines if figure.axis else bars)(axes, kept)
        axes.set_title(figure.title)
        drawing.savefig(path, metadata={"Date": None})


def bars(axes: Axes, rows: Sequence[Row]) -> None:
    medians = [row.median for row in rows]
    below = [row.median - min(row.samples) for row in rows]
    above = [max(row.samples) - row.median for row in rows]
    axes.barh([row.what for row in rows], medians, xerr=[below, above], color="tab:blue", ecolor="black", capsize=2)
    axes.invert_yaxis()
    axes.set_xlabel(f"{rows[0].unit} (median; smallest and largest)")


def lines(axes: Axes, rows: Sequence[Row]) -> None:
    for name in dict.fromkeys(row.what for row in rows):
        mine = [row for row in rows if row.what == name]
        axes.plot([row.at for row in mine], [row.median for row in mine], marker="o", markersize=3, label=name)
    axes.set_ylabel(f"{rows[0].unit} (median)")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)
