"""The agent's side of the resolver: starts its process, tells it what changes, and starts it again when it dies."""

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress

from names.messages import Update, lines
from store.ip import IPAddress

log = logging.getLogger(__name__)

COALESCE = 0.02  # seconds in which changes become one
SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 10.0  # seconds before a process that ended is started again
LASTED = 30.0  # seconds after which a process counts as started well
PATIENCE = 2.0  # seconds for it to end


class Resolver:
    def __init__(self, addresses: Iterable[IPAddress], untold: Callable[[bool], Update], port: int = 53) -> None:
        """`untold` gives what the process must know and was not told yet, or, asked with True, all of it."""
        self._where, self._untold = [str(port), *map(str, addresses)], untold
        self._process: subprocess.Popen[bytes] | None = None
        self._pause = SHORTEST_PAUSE
        self._news, self._stopping = threading.Event(), threading.Event()
        self._feeding = threading.Thread(target=self._feed, name="names", daemon=True)

    def start(self) -> None:
        self._feeding.start()

    def stop(self) -> None:
        self._stopping.set()
        self._news.set()
        if self._feeding.is_alive():
            self._feeding.join(PATIENCE)

    def poke(self) -> None:
        self._news.set()

    def _feed(self) -> None:
        while not self._stopping.is_set():
            try:
                self._serve()
            except OSError as error:  # it has gone
                log.error("the resolver ended, it is started again", extra={"why": error})
            except Exception:  # the loop must live
                log.exception("the resolver is not told of changes")
            finally:
                self._end()
            self._stopping.wait(self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _serve(self) -> None:
        """One process, from its start to its end or ours."""
        # -P: what lies in the working directory is not ours. A session of its own: it ends when we do, not with ^C.
        command = [sys.executable, "-P", "-m", "names", *self._where]
        process = self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        threading.Thread(target=self._await_end, args=(process,), name="names-end", daemon=True).start()
        calm = threading.Timer(LASTED, self._lasted)
        calm.daemon = True
        calm.start()
        try:
            self._tell(process, self._untold(True))
            while not self._stopping.is_set():
                self._news.wait()
                self._stopping.wait(COALESCE)
                self._news.clear()
                self._tell(process, self._untold(False))
        finally:
            calm.cancel()

    def _tell(self, process: "subprocess.Popen[bytes]", news: Update) -> None:
        if (status := process.poll()) is not None:
            raise OSError(f"exit status {status}")
        assert process.stdin is not None
        process.stdin.writelines(lines(news))
        process.stdin.flush()

    def _await_end(self, process: "subprocess.Popen[bytes]") -> None:
        process.wait()
        self.poke()

    def _lasted(self) -> None:
        self._pause = SHORTEST_PAUSE

    def _end(self) -> None:
        """It ends when it can read no more."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
