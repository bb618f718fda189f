"""`flannelpy serve` with stand-ins behind it, as a process of its own: python -m tests.unit.plugin_serve."""

import os
import sys
import time
from pathlib import Path

from flask import Flask

from plugin import log, server, state_dir
from plugin.app import build_app
from plugin.listening import Busy
from plugin.settings import Settings
from store.interface import StoreUnavailable
from tests.unit.plugin_fakes import FakeDriver, FakeIpam


class Agent:
    """Writes down in the state directory when it starts and stops."""

    def __init__(self, diary: Path) -> None:
        self._diary = diary

    def start(self) -> None:
        self._write("start")

    def stop(self) -> None:
        self._write("stop")

    def _write(self, event: str) -> None:
        with self._diary.open("a") as diary:
            diary.write(f"{event} {os.getpid()}\n")


class SlowDriver(FakeDriver):
    def __init__(self, asked: Path) -> None:
        super().__init__()
        self._asked = asked

    def leave(self, network_id: str, endpoint_id: str, /) -> None:
        self._asked.touch()
        time.sleep(1.0)


def create(settings: Settings) -> Flask:
    stalls = settings.state_dir / "stalls"
    (settings.state_dir / "loading").touch()
    while (settings.state_dir / "hold").exists():
        time.sleep(0.02)
    if (settings.state_dir / "broken").exists():
        raise StoreUnavailable("store host.db: the file is damaged")
    return build_app(
        FakeIpam(),
        SlowDriver(settings.state_dir / "asked"),
        Agent(settings.state_dir / "diary"),
        stalled=lambda: ["the loop stands still"] if stalls.exists() else [],
    )


def main() -> None:
    settings = Settings.read(os.environ)
    log.setup(settings.log)
    try:
        with state_dir.claim(settings.state_dir, patience=0.5):
            server.serve(settings, create)
    except Busy as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
