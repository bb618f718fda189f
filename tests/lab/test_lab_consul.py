"""The lab's Consul: what tests of a lost leader and of least privilege rest on."""

import pytest

from tests.lab.commands import wait_until
from tests.lab.consul import ConsulRefused
from tests.lab.lab import Lab


def test_three_servers_lose_their_leader_and_elect_another() -> None:
    with Lab(hosts=0, servers=3) as lab:
        consul = lab.consul
        consul.api("PUT", "/v1/kv/kept", b"value")
        first = consul.leader()
        first.kill()
        assert consul.wait_leader(other_than=first.address) != first.address
        assert consul.keys() == ["kept"]
        first.start()
        consul.wait_leader()
        assert len(consul.running()) == 3

        paused = consul.leader()
        paused.pause()
        others = [server for server in consul.servers if server is not paused]
        wait_until(
            "another leader than the paused one",
            lambda: all(server.leader() not in ("", paused.address) for server in others),
            timeout=30,
            tail=consul.tail,
        )
        paused.resume()
        consul.wait_leader()


def test_a_token_may_do_what_its_policy_says() -> None:
    with Lab(hosts=0, acl=True) as lab:
        token = lab.consul.make_token('key_prefix "flannelpy/" { policy = "write" }')
        assert lab.consul.api("PUT", "/v1/kv/flannelpy/a", b"1", token=token) is True
        with pytest.raises(ConsulRefused, match="403"):
            lab.consul.api("PUT", "/v1/kv/other", b"1", token=token)
        with pytest.raises(ConsulRefused, match="403"):
            lab.consul.api("PUT", "/v1/kv/flannelpy/a", b"1", token="")
        lab.consul.servers[0].stop()
        lab.consul.start()
        assert lab.consul.keys("flannelpy/") == ["flannelpy/a"]
