"""The `dns` line of Docker's /etc/docker/daemon.json. Pure: text in, text out; everything else in the file stays."""

import json
from collections.abc import Collection, Sequence
from ipaddress import ip_address
from typing import Any


class Unusable(ValueError):
    """The message is one sentence."""


def with_dns(text: str, first: Sequence[str], others: Sequence[str]) -> str:
    """`first` come first. `others` are the servers that the host asks: a list in this file replaces them, so they are
    needed where there is none yet. `text` is empty for a file that is not there."""
    asked = servers(text) or list(others)
    return _written({**_parsed(text), "dns": [*first, *(server for server in asked if server not in first)]})


def without_dns(text: str, added: Collection[str]) -> str:
    """Takes out what `with_dns` added; a list that has nothing left goes as a whole."""
    config = _parsed(text)
    left = [server for server in servers(text) if server not in added]
    others = {key: value for key, value in config.items() if key != "dns"}
    return _written({**config, "dns": left} if left else others)


def added(before: str, after: str) -> list[str]:
    """The servers that one text has more than the other."""
    had = servers(before)
    return [server for server in servers(after) if server not in had]


def servers(text: str) -> list[str]:
    return _servers(_parsed(text))


def same(one: str, other: str) -> bool:
    """Whether Docker reads the same in both."""
    return _parsed(one) == _parsed(other)


def nameservers(resolv_conf: str) -> list[str]:
    """Those that containers can ask, too. Docker does not start with anything but addresses in its `dns`, and an
    address with a zone is none to it."""
    words = [line.split() for line in resolv_conf.splitlines()]
    found = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
    return [server for server in found if _leads_out(server)]


def _leads_out(server: str) -> bool:
    try:
        found = ip_address(server)
    except ValueError:
        return False
    if found.version == 6 and (found.is_link_local or "%" in server):  # 169.254.169.254 is a cloud's, and is reached
        return False
    return not (found.is_loopback or found.is_unspecified or found.is_multicast)


def _parsed(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise Unusable(f"it is not valid JSON ({error}), and Docker cannot read it either: repair it first") from None
    if not isinstance(config, dict):
        raise Unusable("it holds no JSON object: repair it first")
    return config


def _servers(config: dict[str, Any]) -> list[str]:
    listed = config.get("dns") or []
    if not isinstance(listed, list) or not all(isinstance(server, str) for server in listed):
        raise Unusable(f"its dns is {json.dumps(listed)}, and must be a list of addresses: repair it first")
    return listed


def _written(config: dict[str, Any]) -> str:
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"
