"""New TCP connections one after the other, each with one byte there and one back, for as long as asked.

Runs alone, without the project, in the network of a host or container:
`connections.py serve PORT`, and `connections.py call ADDRESS PORT SECONDS`, which prints connections per second."""

import socket
import sys
import time


def serve(port: int) -> None:
    with socket.create_server(("", port), backlog=1024) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(connection.recv(1))


def call(address: str, port: int, seconds: float) -> float:
    """The server closes first, so that its side keeps the port waiting and this side never runs out of them."""
    began = time.perf_counter()
    count = 0
    while (now := time.perf_counter()) - began < seconds:
        with socket.create_connection((address, port), timeout=5) as connection:
            connection.sendall(b"x")
            while connection.recv(1):
                pass
        count += 1
    return count / (now - began)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", port]:
            serve(int(port))
        case ["call", address, port, seconds]:
            sys.stdout.write(f"{call(address, int(port), float(seconds)):.1f}\n")
        case _:
            sys.exit(__doc__)
