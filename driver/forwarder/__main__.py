"""`python -m driver.forwarder FD PATH LOCAL PORT`: started by driver/forwarders.py, which see.

FD is the listening unix socket at PATH. Once this can serve, it goes on in a child of its own, so that it is nobody's
to wait for; what keeps it from that is said on stdout, in a sentence."""

import errno
import gc
import os
import socket
import sys
import time
from pathlib import Path

from driver.forwarder.server import Server
from driver.forwarder.underlay import open_socket

PATIENCE = 2.0  # seconds for an earlier forwarder to let go of the port


def main(descriptor: str, path: str, local: str, port: str) -> int:
    listener = socket.socket(fileno=int(descriptor))
    listener.setblocking(False)
    try:
        udp = _bound(local, int(port))
    except OSError as error:
        print(f"UDP port {port} of {local}: {error.strerror}", flush=True)
        return 1
    if os.fork():
        return 0
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    listener.listen()  # again: this is the process that whoever connects shall find there
    gc.freeze()
    Server(listener, Path(path), udp, int(port)).run()
    return 0


def _bound(local: str, port: int) -> socket.socket:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return open_socket(local, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
