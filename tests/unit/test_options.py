"""`-o` options: unknown and impossible ones are refused with a sentence."""

import pytest

from driver.errors import BadRequest
from driver.options import Options, parse


def test_what_was_said_is_kept_and_the_rest_is_open() -> None:
    assert parse({}, False) == Options()
    assert parse({"backend": "vxlan", "vni": "7", "port": "4789", "mtu": "1400"}, True) == Options(
        "vxlan", 7, 4789, 1400
    )
    assert parse({"com.docker.network.driver.mtu": "1400"}, False).mtu == 1400
    assert parse({"direct-routing": "true", "checksum-offload": "off"}, False) == Options(
        direct_routing=True, checksum_offload="off"
    )
    assert parse({"backend": "host-gw", "fast-path": "false"}, False) == Options("host-gw", fast_path=False)
    assert parse({"com.docker.network.driver.mtu": "1400", "mtu": "1400"}, False).mtu == 1400


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"bakend": "vxlan"},
            "unknown option bakend; known: backend, checksum-offload, direct-routing, fast-path",
        ),
        ({"backend": "gre"}, "-o backend=gre: must be one of vxlan, host-gw"),
        ({"gateway": "10.1.0.1"}, "-o gateway=10.1.0.1: must be one of gwbridge, direct"),
        ({"vni": "0"}, "-o vni=0: must be a number from 1 to 16777215"),
        ({"vni": "16777216"}, "-o vni=16777216"),
        ({"vni": "٣"}, "-o vni="),
        ({"port": "65536"}, "-o port=65536: must be a number from 1 to 65535"),
        ({"port": "-1"}, "-o port=-1"),
        ({"mtu": "1279"}, "-o mtu=1279: must be a number from 1280"),
        ({"mtu": ""}, "-o mtu=: must be a number"),
        ({"mtu": "1400", "com.docker.network.driver.mtu": "1500"}, "contradict each other"),
        ({"backend": "host-gw", "port": "1"}, "host-gw has no tunnel"),
        ({"direct-routing": "yes"}, "-o direct-routing=yes: must be one of true, false"),
        ({"checksum-offload": ""}, "-o checksum-offload=: must be one of auto, on, off"),
        (
            {"backend": "host-gw", "direct-routing": "true"},
            "-o direct-routing=true: this option is for backend vxlan, not host-gw",
        ),
        (
            {"backend": "udp", "fast-path": "true"},
            "-o fast-path=true: this option is for backend vxlan or host-gw, not udp",
        ),
    ],
)
def test_wrong_options_are_refused(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(given, True)
    assert sentence in str(refused.value)
