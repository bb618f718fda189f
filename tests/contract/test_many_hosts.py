"""A hundred hosts on one pool of one real Consul, all at once."""

from pathlib import Path

import pytest

from tests.bench.addresses import Crowd, crowd, in_a_cluster_of_its_own
from tests.consul_agent import ConsulAgent


@pytest.mark.consul
@pytest.mark.timeout(300)
def test_a_hundred_hosts_at_once_get_no_duplicate_and_leave_nothing(open_agent: ConsulAgent, tmp_path: Path) -> None:
    seen: Crowd = crowd(in_a_cluster_of_its_own(open_agent), tmp_path, hosts=100, each=40)
    assert seen.addresses == 4000
    assert seen.duplicates == 0
    assert seen.left_over == 0
    assert seen.writes_per_address < 0.5
