"""The commands of the README, as it has them: what a new user types."""

import re
from collections.abc import Iterator

from tests.lab.images import ROOT

README = ROOT / "README.md"


def blocks(heading: str, text: str | None = None) -> list[str]:
    """The indented blocks below this heading, up to the next one."""
    below = (README.read_text() if text is None else text).partition(f"\n{heading}\n")[2]
    if not below:
        raise LookupError(f"the README has no heading {heading!r}")
    section = re.split(r"^#", below, maxsplit=1, flags=re.MULTILINE)[0]
    return ["\n".join(lines) for lines in _runs(section)]


def _runs(section: str) -> Iterator[list[str]]:
    for run in re.findall(r"(?:^    .*\n)+", section, re.MULTILINE):
        yield [line.removeprefix("    ") for line in run.splitlines()]


def block(heading: str, beginning: str) -> str:
    """The one block there that begins so: reworded text around it does not matter, another command does."""
    found = [block for block in blocks(heading) if block.startswith(beginning)]
    if len(found) != 1:
        raise LookupError(f"the README has {len(found)} blocks below {heading!r} that begin with {beginning!r}")
    return found[0]
