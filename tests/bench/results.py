"""What was measured, kept in a file beside the pages that are made of it: so one figure can be measured anew alone."""

import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from tests.bench.samples import Note, Row
from tests.lab import commands
from tests.lab.engines import chosen
from tests.lab.images import ROOT

FOLDER = ROOT / "docs/benchmarks"


@dataclass(frozen=True, slots=True)
class Result:
    when: str
    conditions: str
    rows: list[Row]
    notes: list[Note]


def read(folder: Path) -> dict[str, Result]:
    path = folder / "results.json"
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Result]) if path.exists() else {}


def write(folder: Path, results: Mapping[str, Result]) -> None:
    short = {
        name: replace(
            result, rows=[replace(row, samples=[float(f"{one:.4g}") for one in row.samples]) for row in result.rows]
        )
        for name, result in results.items()
    }
    text = msgspec.json.format(msgspec.json.encode(short), indent=0).replace(b",\n", b", ").replace(b"}, {", b"},\n{")
    (folder / "results.json").write_bytes(text + b"\n")


def today() -> str:
    return time.strftime("%Y-%m-%d")


def conditions() -> str:
    """The machine matters as much as the program."""
    model = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ""
    )
    engine = chosen().version or commands.run("dockerd", "--version").removeprefix("Docker version ").partition(",")[0]
    python = ".".join(map(str, sys.version_info[:3]))
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} processors ({model or platform.machine()}), Linux {platform.release()}, Docker {engine}, "
        f"Python {python}; load average {load:.1f} before"
    )
