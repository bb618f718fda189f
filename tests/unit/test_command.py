"""Programs that are not there, do not start, do not end, or say what is no text."""

from pathlib import Path

import pytest

from driver.command import NoAnswer, call
from driver.errors import KernelError


def test_what_is_no_text_hinders_nobody() -> None:
    """A comment in Latin-1, as it may stand in anybody's rule."""
    assert call(["printf", r"f\374r alle"], package="coreutils", timeout=10).stdout == "f\ufffdr alle"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["no-such-command"], "^the command no-such-command is missing; install the package some-package$"),
        (["sleep", "60"], "^sleep 60: no answer in 0 s$"),
        (["sleep", "6" * 400], r"^sleep \.\.\.: no answer in 0 s$"),
    ],
)
def test_one_of_which_nothing_is_heard(command: list[str], says: str) -> None:
    with pytest.raises(NoAnswer, match=says):
        call(command, package="some-package", timeout=0.1)


def test_one_that_cannot_be_started(tmp_path: Path) -> None:
    command = tmp_path / "it"
    command.touch(mode=0o600)
    with pytest.raises(KernelError, match=f"^{command}: Permission denied$"):
        call([str(command)], package="some-package", timeout=10)
