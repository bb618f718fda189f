"""The tables: lines for the terminal while it measures, and the page docs/benchmarks/RESULTS.md."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from tests.bench.figures import FIGURES, Figure
from tests.bench.results import Result
from tests.bench.samples import Note, Row, shown

HEAD = """# Results

Made by `make bench`; do not edit. [README.md](README.md) says how it is measured and what the figures mean.
Medians of all rounds, and in brackets the smallest and the largest.
"""


def line(row: Row | Note) -> str:
    if isinstance(row, Note):
        return f"    ({row.text})"
    spread = f"{shown(min(row.samples))} - {shown(max(row.samples))}"
    what = f"{row.what}, {row.at}" if row.at else row.what
    judged = f"  {row.wanted}: {row.verdict}" if row.wanted else ""
    return f"{what:52}{shown(row.median):>8} {row.unit:7} {len(row.samples):>4} rounds, {spread}{judged}"


def summary(rows: Sequence[Row]) -> str:
    asked = [row for row in rows if row.wanted]
    missed = [row.what for row in asked if not row.met]
    return f"{len(asked) - len(missed)} of {len(asked)} targets met" + (
        f"; missed: {'; '.join(missed)}" if missed else ""
    )


def page(results: Mapping[str, Result]) -> str:
    known = [(name, FIGURES[name], results[name]) for name in FIGURES if name in results]
    return "\n".join([HEAD, *targets(known), *chain.from_iterable(section(*one) for one in known)])


def targets(known: Iterable[tuple[str, Figure, Result]]) -> Iterator[str]:
    yield "## Targets\n"
    cells = [
        [
            figure.title,
            row.what,
            spread(row),
            f"{row.wanted} {row.unit.replace('ratio', '')}".strip(),
            f"**{row.verdict}**",
        ]
        for _, figure, result in known
        for row in result.rows
        if row.wanted
    ]
    yield from table(["figure", "what", "measured", "wanted", ""], cells)


def section(name: str, figure: Figure, result: Result) -> Iterator[str]:
    yield f"## {figure.title}\n"
    yield f"{' '.join((figure.measure.__doc__ or '').split())}\n"
    if figure.plotted:
        yield f"![{figure.title}]({name}.svg)\n"
    yield from swept(figure, result.rows) if figure.axis else plain(result.rows)
    yield from (f"* {note.text}" for note in result.notes)
    yield f"\n`make bench FIGURES={name}`, {result.when}: {result.conditions}.\n"


def plain(rows: Sequence[Row]) -> Iterator[str]:
    cells = [[row.what, spread(row), str(len(row.samples)), row.wanted, row.verdict] for row in rows]
    yield from table(["", "median", "rounds", "wanted", ""], cells)


def swept(figure: Figure, rows: Sequence[Row]) -> Iterator[str]:
    """A line for each point, a column for each thing."""
    names, points = list(dict.fromkeys(row.what for row in rows)), list(dict.fromkeys(row.at for row in rows))
    found = {(row.at, row.what): row for row in rows}
    units = {row.what: row.unit for row in rows}
    cells = [[at, *(spread(found[at, name], unit=False) for name in names if (at, name) in found)] for at in points]
    yield from table([figure.axis, *(f"{name}, {units[name]}" for name in names)], cells)


def spread(row: Row, *, unit: bool = True) -> str:
    measured = f"{shown(row.median)}{f' {row.unit}' if unit and row.unit != 'ratio' else ''}"
    return f"{measured} ({shown(min(row.samples))}-{shown(max(row.samples))})"


def table(heading: Sequence[str], cells: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heading)} |"
    yield f"|{'---|' * len(heading)}"
    yield from (f"| {' | '.join(row)} |" for row in cells)
    yield ""
