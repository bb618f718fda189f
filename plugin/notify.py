"""What systemd is told."""

import socket
from contextlib import suppress


def notify(address: str | None, state: str) -> None:
    """Tell systemd (`man sd_notify`), if it wants to know."""
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(state.encode(), name)
