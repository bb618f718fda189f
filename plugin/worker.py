"""gunicorn's worker of threads, which goes on when there is no file descriptor left.

Its own would end at a connection that it cannot accept, and break off one that it cannot wait for: dockerd then tries
again for 16 s, and does not learn why. This one lets nobody in whom it may not be able to serve, and tells him so at
once, with a descriptor that it keeps in hand for that."""

import logging
import os
import socket
import time
from contextlib import suppress
from http import HTTPStatus
from io import FileIO
from typing import Any

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from plugin import descriptors
from plugin.refusing import answer

log = logging.getLogger(__name__)

MOMENT = 0.1  # seconds until the next try where not even a refusal was possible


class Worker(ThreadWorker):  # type: ignore[misc]
    def init_process(self) -> None:
        self._in_hand = FileIO(os.devnull)
        super().init_process()

    def accept(self, listener: Any) -> None:
        try:
            if descriptors.has_room(listener.fileno()):
                super().accept(listener)
            else:
                self._refuse(listener)
        except OSError as error:
            if not descriptors.is_for_want(error):
                raise
            time.sleep(MOMENT)  # who wants in waits in the kernel

    def _refuse(self, listener: socket.socket) -> None:
        """One at a time, and nobody is let in meanwhile: others may take the descriptor for themselves."""
        sentence = descriptors.sentence()
        log.error(sentence)
        self._in_hand.close()
        try:
            with suppress(BlockingIOError):  # who came has gone
                answer(listener, f"{sentence} (for now)", HTTPStatus.SERVICE_UNAVAILABLE, {})
        finally:
            with suppress(OSError):
                self._in_hand = FileIO(os.devnull)
