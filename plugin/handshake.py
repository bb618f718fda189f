"""What Docker asks of a plugin before anything else, and remembers until it restarts.

So the stand-in (plugin/stand_in.py), which loads no more than this, answers it as flannelpy does."""

from collections.abc import Mapping
from http import HTTPStatus

Json = dict[str, object]

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
ADDRESS_SPACE = "flannelpy"
ACTIVATE = "/Plugin.Activate"
ANSWERS: Mapping[str, Json] = {
    ACTIVATE: {"Implements": ["NetworkDriver", "IpamDriver"]},
    # Each host creates the network itself (Scope), and it reaches all hosts (ConnectivityScope).
    "/NetworkDriver.GetCapabilities": {"Scope": "local", "ConnectivityScope": "global", "GwAllocChecker": False},
    # No replay at dockerd's start: this host remembers its pools and addresses itself.
    "/IpamDriver.GetCapabilities": {"RequiresMACAddress": False, "RequiresRequestReplay": False},
    # The same name for both: else libnetwork asks for pools for ever when one overlaps a route of the host (27+).
    "/IpamDriver.GetDefaultAddressSpaces": {
        "LocalDefaultAddressSpace": ADDRESS_SPACE,
        "GlobalDefaultAddressSpace": ADDRESS_SPACE,
    },
}
GIVE_WAY = "/Flannelpy.GiveWay"  # asked by a flannelpy that starts; the stand-in alone knows the call
NOT_RUNNING = HTTPStatus.BAD_GATEWAY  # of the stand-in's refusals, and of no others


def refusal(sentence: str) -> Json:
    """dockerd reads `Err` on any status but 200 for both protocols; `Error` is the IPAM protocol's own name for it."""
    return {"Err": sentence, "Error": sentence}
