"""The resolver's process as the agent runs it, on a loopback port, and clients for it."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from names.messages import Member, Update, lines

POOL, HERE = "10.64.0.0/12", "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Running:
    port: int
    process: "subprocess.Popen[bytes]"

    def tell(self, update: Update) -> None:
        assert self.process.stdin is not None
        self.process.stdin.writelines(lines(update))
        self.process.stdin.flush()

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def megabytes(self) -> float:
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096 / 1e6


@contextmanager
def resolver(*within: str) -> Iterator[Running]:
    """Serves queries from 127.0.0.1, which is a container in POOL once it was told so. `within` is a command that
    starts others."""
    port = free_port()
    command = [*within, sys.executable, "-P", "-m", "names", str(port), HERE]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield Running(port, process)
        finally:
            process.stdin.close()  # type: ignore[union-attr]
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def free_port() -> int:
    """One that is free for both transports a moment ago."""
    with socket.create_server((HERE, 0)) as found:
        return int(found.getsockname()[1])


def crowd(count: int) -> Update:
    """So many containers `c0`, `c1`, ... and the one that asks."""
    members = {str(n): Member(POOL, "web", f"c{n}", (f"c{n}", f"id{n:010d}"), (address(n),)) for n in range(count)}
    return Update(dict(members), {HERE: (POOL,)}, {POOL: (POOL,)})


def address(number: int) -> str:
    return f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def query(number: int, name: str) -> bytes:
    labels = b"".join(len(label).to_bytes(1) + label.encode() for label in name.split("."))
    return number.to_bytes(2) + b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + labels + b"\x00\x00\x01\x00\x01"


def await_name(running: Running, name: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.settimeout(0.2)
        client.connect((HERE, running.port))
        while time.monotonic() < deadline:
            try:
                client.send(query(1, name))
                if client.recv(600)[3] & 0xF == 0:
                    return
            except OSError:
                time.sleep(0.02)
    raise TimeoutError(f"{name} is not known after {seconds} s")
