"""Containers of the lab that ask for names."""

import sys
import time
from collections.abc import Sequence

from tests.lab.cluster import Container
from tests.lab.commands import wait_until

RESOLVER, RESOLVER6 = "169.254.53.53", "fda9:fe35:35::53"
ASK = """
import sys, dns.exception, dns.message, dns.query
server, kind, transport, *names = sys.argv[1:]
server, _, port = server.partition("#")
ask = dns.query.tcp if transport == "tcp" else dns.query.udp
for name in names:
    try:
        answer = ask(dns.message.make_query(name, kind, use_edns=0), server, 3, int(port or 53))
        print(answer.rcode().name, *(item.to_text() for rrset in answer.answer for item in rrset))
    except (dns.exception.Timeout, OSError) as error:
        print(type(error).__name__)
"""


def ask(container: Container, name: str, kind: str = "A", *, server: str = "127.0.0.11", transport: str = "udp") -> str:
    """What a program in the container is told: the code, and what the records say, sorted. `server` may be
    `ADDRESS#PORT`."""
    [told] = ask_all(container, [name], kind, server=server, transport=transport)
    code, *said = told.split()
    return " ".join([code, *sorted(said)])


def ask_all(
    container: Container,
    names: Sequence[str],
    kind: str = "A",
    *,
    server: str = "127.0.0.11",
    transport: str = "udp",
) -> list[str]:
    """The same for many names, one after the other and by one program, each in the order in which it is told."""
    return container.tool(sys.executable, "-c", ASK, server, kind, transport, *names)[1].splitlines()


def until(container: Container, name: str, expected: str, kind: str = "A") -> float:
    """Seconds until the container is told so."""
    began = time.monotonic()
    wait_until(
        f"{container} to be told {expected!r} for {name}",
        lambda: ask(container, name, kind) == expected,
        timeout=60,
        tail=lambda: ask(container, name, kind),
        every=0.02,
    )
    return time.monotonic() - began
