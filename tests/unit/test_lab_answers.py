"""A lab that finds an answer slow says which."""

from tests.lab.answers import answers

LOG = """\
12:00:01 debug answered call=/NetworkDriver.Join status=200 ms=12.5
12:00:01 debug answered call=/IpamDriver.RequestAddress status=200 ms=1031.0
12:00:02 debug answered call=/healthz status=200 ms=9000.0
12:00:02 info network made here
12:00:03 debug answered call=/NetworkDriver.Leave status=200 ms=0.4
"""


def test_the_slowest_calls_are_named() -> None:
    assert answers(LOG)[:2] == [(1031.0, "/IpamDriver.RequestAddress"), (12.5, "/NetworkDriver.Join")]
    assert answers("") == []
