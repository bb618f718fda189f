"""Threads that only a restart would bring back live on, whatever they meet."""

import errno
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from ipaddress import ip_network
from itertools import count
from types import SimpleNamespace
from typing import Protocol, cast

import pytest

from cluster.lender import Lender
from driver import listener, reconciler
from driver.errors import KernelError
from driver.journal import Journal
from driver.kernel import Kernel, Notices
from driver.remover import Remover
from driver.view import View
from ipam.spaces import SpacedPool
from store import records
from store.interface import StoreUnavailable
from store.memory import MemoryStore


class Loop(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...


@contextmanager
def running(loop: Loop) -> Iterator[None]:
    loop.start()
    try:
        yield
    finally:
        loop.stop()


def raising(error: Exception, times: int, then: Callable[[], object]) -> Callable[[], object]:
    """Breaks some times before it does what it should."""
    left = [error] * times

    def call() -> object:
        if left:
            raise left.pop()
        return then()

    return call


@pytest.mark.parametrize("error", [struct.error("short"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text")])
def test_the_kernel_is_listened_to_after_a_notice_that_cannot_be_read(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, over = threading.Event(), threading.Event()
    monkeypatch.setattr(listener, "PAUSE", 0.01)
    monkeypatch.setattr(listener, "COALESCE", 0.0)

    def hears() -> bool:
        heard.set()
        return over.wait(5)

    class Told:
        wait = staticmethod(raising(error, 2, hears))
        close = staticmethod(lambda: None)

    with running(listener.Listener(lambda: None, lambda: cast(Notices, Told()))):
        assert heard.wait(5)
        over.set()


@pytest.mark.parametrize("error", [KernelError("no more notices"), OSError(errno.EMFILE, "too many open files")])
def test_what_the_kernel_told_meanwhile_is_asked_for_whatever_breaks_however_often(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither hearing nor passing on works at first; then a look is asked for that no notice was for."""
    asked, over = threading.Event(), threading.Event()
    monkeypatch.setattr(listener, "PAUSE", 0.01)
    wait = raising(error, 1, lambda: over.wait(5))
    told = SimpleNamespace(wait=wait, close=lambda: None)
    one = listener.Listener(raising(error, 3, asked.set), lambda: cast(Notices, told))
    with running(one):
        assert asked.wait(5)
        assert one.runs
        assert one.failures == 4
        over.set()


def test_passes_go_on_after_a_door_to_the_kernel_that_does_not_even_close(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, third = count(1), threading.Event()
    monkeypatch.setattr(reconciler, "AGAIN", 0.01)

    def open_kernel() -> Kernel:
        if next(opened) == 3:
            third.set()
        return cast(Kernel, SimpleNamespace(read=broken, underlay=broken, close=broken))

    def broken(*_: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    one = reconciler.Reconciler(Journal(MemoryStore()), "h1", lambda: None, None, (), open_kernel=open_kernel)
    with running(one):
        assert third.wait(5)


def test_wishes_are_looked_at_after_a_view_that_cannot_be_read() -> None:
    asked = threading.Event()

    def view() -> View:
        asked.set()
        return View({})

    broken = raising(ValueError("no key of ours"), 1, view)
    lender = Lender(cast(Callable[[], View | None], broken), lambda _: None)
    with running(lender):
        lender.poke()
        while not asked.wait(0.05):
            assert lender._thread.is_alive()
            lender.poke()


def test_a_wish_that_the_store_was_in_the_way_of_is_looked_at_again() -> None:
    answered, where = threading.Event(), ip_network("10.9.0.0/24")
    answer = raising(StoreUnavailable("a hiccup"), 1, answered.set)

    def answer_wishes(_: SpacedPool) -> None:
        answer()

    lender = Lender(lambda: View({records.wanted_key(where, where[5]): b"{}"}), answer_wishes)
    with running(lender):
        lender.poke()
        assert answered.wait(2)


@pytest.mark.parametrize("error", [KernelError("- link flv1: the kernel says no"), RuntimeError("a bug")])
def test_links_are_removed_after_one_that_could_not_be(error: Exception) -> None:
    removed, asked = threading.Event(), threading.Event()

    class Deaf:
        delete_link = staticmethod(lambda _: raising_once())

    raising_once = raising(error, 1, removed.set)
    remover = Remover(lambda: nullcontext(cast(Kernel, Deaf())), asked.set)
    with running(remover):
        remover.remove("flv1")
        assert asked.wait(5), "the reconciler has to look after the first"
        remover.remove("flv2")
        assert removed.wait(5)
