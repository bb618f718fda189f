"""`python -m tests.bench [--write] [FIGURE...]`: all figures, or those that are named.

Prints them; with `--write` (as `make bench` has it) also puts them into docs/benchmarks."""

import argparse
import sys
from collections.abc import Sequence

from tests.bench import plots, report, results
from tests.bench.bench import Bench
from tests.bench.figures import FIGURES
from tests.bench.samples import Note, Row
from tests.lab import requirements


def measured(bench: Bench, name: str) -> results.Result:
    print(f"\n{FIGURES[name].title} ({name})", flush=True)
    conditions, rows, notes = results.conditions(), list[Row](), list[Note]()
    for line in FIGURES[name].measure(bench):
        print(report.line(line), flush=True)
        rows.append(line) if isinstance(line, Row) else notes.append(line)
    return results.Result(results.today(), conditions, rows, notes)


def write(new: dict[str, results.Result]) -> None:
    """All pages and pictures anew, of what was measured now and what was before."""
    results.FOLDER.mkdir(exist_ok=True)
    found = results.read(results.FOLDER) | new
    results.write(results.FOLDER, found)
    (results.FOLDER / "RESULTS.md").write_text(report.page(found))
    for name in found.keys() & FIGURES.keys():
        if FIGURES[name].plotted:
            plots.draw(FIGURES[name], found[name].rows, results.FOLDER / f"{name}.svg")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.bench", description="measure what flannelpy costs")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)}; all by default")
    parser.add_argument("--write", action="store_true", help=f"also into {results.FOLDER}")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.figures if name not in FIGURES]:
        parser.error(f"no figure {unknown[0]}; known: {', '.join(FIGURES)}")
    if sentence := requirements.missing():
        sys.exit(sentence)
    new = {}
    with Bench() as bench:
        for name in asked.figures or FIGURES:
            new[name] = measured(bench, name)
            if asked.write:  # what was measured is kept, whatever becomes of the next
                write(new)
    print(f"\n{report.summary([row for result in new.values() for row in result.rows])}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
