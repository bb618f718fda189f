"""The resolver's process: both transports, hostile clients, and its life beside the agent's."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from ipaddress import ip_address
from pathlib import Path

import pytest

from names.messages import Member, Update
from names.process import Resolver
from names.server import TCP_PATIENCE
from tests.names_process import HERE, POOL, Running, address, await_name, crowd, free_port, query, resolver
from tests.promises import best_of

REFUSED, NOERROR = 5, 0
OTHER = "127.0.0.2"  # another container
ASKERS: dict[str, tuple[str, ...] | None] = {HERE: (POOL,), OTHER: (POOL,)}


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with resolver() as running:
        running.tell(crowd(3))
        await_name(running, "c2")
        yield running


def connected(running: Running) -> socket.socket:
    return socket.create_connection((HERE, running.port), timeout=3)


def exchange(stream: socket.socket, message: bytes) -> bytes:
    stream.sendall(len(message).to_bytes(2) + message)
    return receive(stream)


def receive(stream: socket.socket) -> bytes:
    size = int.from_bytes(exactly(stream, 2))
    return exactly(stream, size)


def exactly(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def answers(stream: socket.socket) -> bool:
    try:
        return bool(exchange(stream, query(1, "c1")))
    except (EOFError, OSError):
        return False


ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give it up")


def status_of(running: Running) -> dict[str, list[str]]:
    lines = Path(f"/proc/{running.process.pid}/status").read_text().splitlines()
    return {name: values.split() for name, _, values in (line.partition(":") for line in lines)}


def test_connections_that_ended_leave_nothing_behind_while_names_come_and_go(running: Running) -> None:
    def ask_and_tell() -> float:
        for number in range(1000):
            with connected(running) as stream:
                assert answers(stream)
            if number % 10 == 0:
                running.tell(Update({}, {"127.0.0.3": (POOL,) if number % 20 else None}))
        return running.megabytes()

    ask_and_tell()
    before = running.megabytes()
    assert ask_and_tell() - before < 0.5


@ROOT
def test_it_is_nobody_and_may_do_nothing(running: Running) -> None:
    status = status_of(running)
    assert (status["Uid"], status["Gid"], status["Groups"]) == (["65534"] * 4, ["65534"] * 4, [])
    assert [status[of] for of in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [["0" * 16]] * 4
    assert status["NoNewPrivs"] == ["1"]


@ROOT
def test_where_it_may_not_give_up_root_it_says_so_and_serves(capfd: pytest.CaptureFixture[str]) -> None:
    with resolver("setpriv", "--bounding-set", "-setgid,-setuid") as running:
        running.tell(crowd(3))
        await_name(running, "c2")
        assert status_of(running)["Uid"] == ["0"] * 4
    assert (
        "stays root: Operation not permitted; `flannelpy install` writes a unit that lets it" in capfd.readouterr().err
    )


def test_several_questions_on_one_connection(running: Running) -> None:
    with closing(connected(running)) as stream:
        for number in range(3):
            assert exchange(stream, query(number, f"c{number}"))[-4:] == bytes([10, 64, 0, number])
        assert exchange(stream, query(9, "nobody"))[3] & 0xF == REFUSED


def test_a_query_in_pieces_is_one_query(running: Running) -> None:
    message = query(1, "c1")
    with closing(connected(running)) as stream:
        for byte in len(message).to_bytes(2) + message:
            stream.sendall(bytes([byte]))
        assert receive(stream)[-4:] == bytes([10, 64, 0, 1])


def test_one_address_cannot_take_all_connections(running: Running) -> None:
    streams = [connected(running) for _ in range(20)]
    try:
        assert 1 <= sum(answers(stream) for stream in streams) <= 8
    finally:
        for stream in streams:
            stream.close()
    await_name(running, "c1")


def test_hostile_clients_do_not_stall_the_others(running: Running) -> None:
    stopping = threading.Event()

    def flood() -> None:
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
            client.connect((HERE, running.port))
            number = 0
            while not stopping.is_set():
                number += 1
                try:
                    client.send(query(number & 0xFFFF, "x" * (number % 60) + str(number))[: number % 70])
                    client.send(b"\xff" * (number % 5000))
                except OSError:
                    pass
                time.sleep(0.0005)

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        with closing(connected(running)) as slow:
            slow.sendall(b"\xff")  # and never goes on
            for _ in range(5):
                await_name(running, "c1", 15)
    finally:
        stopping.set()
        flooding.join()


def test_who_says_nothing_or_never_reads_is_ended_and_costs_others_nothing() -> None:
    members = {str(n): Member(POOL, "web", f"c{n}", ("all",), (address(n),)) for n in range(2000)}
    with resolver() as running:
        running.tell(Update(dict(members), ASKERS, {POOL: (POOL,)}))
        await_name(running, "c1999")
        before = running.megabytes()
        greedy = [connected(running) for _ in range(4)]
        silent = [connected(running) for _ in range(100)]  # four are let in
        try:
            for stream in greedy:
                ask(stream, query(1, "all"), 10_000)  # each answer has 32 KB
            with closing(another(running)) as mine:
                assert exchange(mine, query(1, "c1"))[-4:] == bytes([10, 64, 0, 1])
            await_name(running, "c1", 1)
            assert running.megabytes() - before < 10
            time.sleep(TCP_PATIENCE + 3)  # to look is to read; and a busy machine ends them late
            assert all(map(was_ended, [*silent, *greedy]))
        finally:
            for stream in [*silent, *greedy]:
                stream.close()
        with closing(connected(running)) as stream:
            assert answers(stream)


def test_who_asks_very_much_at_once_makes_nobody_wait() -> None:
    with resolver() as running:
        running.tell(Update(crowd(3).members, ASKERS, {POOL: (POOL,)}))
        await_name(running, "c2")
        greedy = [connected(running) for _ in range(8)]

        def turn() -> float:
            """Seconds that another container waits for two answers."""
            for stream in greedy:
                ask(stream, query(1, "c1"), 20_000)
            began = time.monotonic()
            with closing(another(running)) as mine:
                for _ in range(2):
                    exchange(mine, query(1, "c1"))
            return time.monotonic() - began

        try:
            best_of(turn, 0.5)
        finally:
            for stream in greedy:
                stream.close()


def another(running: Running) -> socket.socket:
    """A connection from another container."""
    return socket.create_connection((HERE, running.port), timeout=3, source_address=(OTHER, 0))


def ask(stream: socket.socket, message: bytes, times: int) -> None:
    """As often as it takes without waiting, and so many times at most."""
    stream.settimeout(0.2)
    with suppress(TimeoutError):
        for _ in range(times // 100):
            stream.sendall((len(message).to_bytes(2) + message) * 100)


def was_ended(stream: socket.socket) -> bool:
    """By the other side."""
    stream.settimeout(1)
    try:
        while stream.recv(1 << 16):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def test_a_process_that_died_is_started_again_and_told_everything() -> None:
    port = free_port()
    known = Update(
        members={"1": Member(POOL, "web", "shop", ("shop",), ("10.64.0.1",))},
        askers={HERE: (POOL,)},
        prefixes={POOL: (POOL,)},
    )
    news = Update()
    manager = Resolver([ip_address(HERE)], lambda afresh: known if afresh else news, port)
    manager.start()
    try:
        first = manager._process
        while first is None:
            time.sleep(0.01)
            first = manager._process
        there = Running(port, first)
        await_name(there, "shop")
        first.kill()
        first.wait()
        await_name(there, "shop")
        news = Update({"1": Member(POOL, "web", "store", ("store",), ("10.64.0.1",))})
        manager.poke()
        await_name(there, "store")
    finally:
        manager.stop()
    with pytest.raises(TimeoutError):
        await_name(there, "store", 0.3)
