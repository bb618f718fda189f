"""The composition root."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from plugin.parts import assemble
from plugin.settings import Settings
from store.interface import ABSENT, Put
from store.rules import MAX_BYTES


def test_what_never_leaves_this_host_may_be_larger_than_a_request_to_consul(tmp_path: Path) -> None:
    """As an endpoint with ten thousand published ports is, and what changed of some containers with many names."""
    with closing(assemble(replace(Settings(), state_dir=tmp_path, host="h1"))) as parts:
        for store in (parts.local, parts.kept):
            assert store.commit(Put("large", bytes(MAX_BYTES), ABSENT))
