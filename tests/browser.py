"""Chromium without a window: what a page has become, and what it looks like. Debian's own, started by its command."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

PROGRAMS = ("chromium-headless-shell", "chromium")
DARK, LIGHT = 0, 1  # blink::mojom::PreferredColorScheme


def program() -> str | None:
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def dom(url: str, *, after: float, width: int = 1200, dark: bool = False) -> str:
    """The page's elements as HTML, `after` so many seconds of its own time, which pass faster than ours."""
    return _run((), url, after, "--dump-dom", f"--window-size={width},900", _scheme(dark=dark))


def screenshot(url: str, path: Path, size: tuple[int, int], *, dark: bool = False, where: Sequence[str] = ()) -> None:
    """PNG of the page's first so many pixels. `where` is the command that enters a namespace."""
    window = f"--window-size={size[0]},{size[1]}"
    shot = f"--screenshot={path}"
    _run(where, url, 2, shot, window, _scheme(dark=dark), "--hide-scrollbars")


def _scheme(*, dark: bool) -> str:
    return f"--blink-settings=preferredColorScheme={DARK if dark else LIGHT}"


def _run(where: Sequence[str], url: str, after: float, *options: str) -> str:
    chromium = program()
    assert chromium, f"none of {', '.join(PROGRAMS)} is installed: run scripts/setup --browser"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [*where, chromium, "--headless", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
        command += ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses its own to root
        command += ["--disable-background-networking", f"--virtual-time-budget={after * 1000:.0f}", *options, url]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
