"""For all unit tests."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def service_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of this machine's own: the settings of a service, of which there are none yet."""
    path = tmp_path / "flannelpy.env"
    monkeypatch.setattr("plugin.flags.ENVIRONMENT", path)
    return path
