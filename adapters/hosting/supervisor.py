"""Several workers on the same sockets: started together, stopped together."""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Sequence
from itertools import chain
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from adapters.hosting.signals import STOP_SIGNALS, die_of_the_next
from adapters.hosting.worker import EXIT_FAILURE, EXIT_OK, Job, run_worker

__all__ = ("supervise",)

logger = logging.getLogger("broker.hosting")

# Beyond the deadline at which a worker ends itself (s; guess).
MERCY_S = 2.0


def supervise(
    job: Job, sockets: list[socket.socket], own: Sequence[list[socket.socket]] = ()
) -> int:
    """Run ``settings.server.workers`` workers until told to stop.

    On SIGTERM or SIGINT all of them send their clients away and exit; a second signal
    kills them at once. When one ends by itself, the others are stopped: whoever runs
    this command starts it anew, with all of them. When this process is killed, they
    see it and stop.

    Args:
        sockets: that all of them listen on; they are closed.
        own: more for each, that it has for itself; likewise.

    Returns:
        The exit code: of the first worker that failed, else 0.
    """
    workers = _Workers(job, sockets, own)
    for sock in [*sockets, *chain.from_iterable(own)]:
        sock.close()  # the workers have them now
    workers.listen()
    return workers.wait()


def _work(job: Job, sockets: list[socket.socket], stop: Connection) -> None:
    # Ctrl-C reaches all processes of a terminal; the supervisor says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # SystemExit becomes the exit code of the process.
    raise SystemExit(run_worker(job, sockets, stop))


class _Workers:
    def __init__(
        self,
        job: Job,
        sockets: Sequence[socket.socket],
        own: Sequence[list[socket.socket]],
    ) -> None:
        # A fresh interpreter for each: what runs here is not copied half way.
        context = get_context("spawn")
        self._drain_s = job.settings.server.drain_s
        self._deadline: float | None = None
        self._processes: list[BaseProcess] = []
        self._stops: list[Connection] = []  # a worker stops when its one is closed
        # Readable after a signal, which by itself does not end a wait (PEP 475).
        self._woken, self._wake = context.Pipe(duplex=False)
        for number in range(1, job.settings.server.workers + 1):
            mine = [*sockets, *(own[number - 1] if own else ())]
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(
                target=_work,
                args=(job, mine, receiver),
                name=f"broker worker {number}",
            )
            process.start()
            receiver.close()
            self._processes.append(process)
            self._stops.append(sender)

    def listen(self) -> None:
        """Stop at the first signal, and kill at the second."""

        def on_signal(number: int, _: object) -> None:
            # First: the next one may come while this is written.
            die_of_the_next(time.monotonic(), self._kill)
            logger.info("%s: stopping", signal.Signals(number).name)
            self._stop()

        for each in STOP_SIGNALS:
            signal.signal(each, on_signal)

    def wait(self) -> int:
        """Return the exit code when the last worker has gone."""
        running = {process.sentinel: process for process in self._processes}
        code = EXIT_OK
        while running:
            stirring = [self._woken] if self._deadline is None else []
            for sentinel in wait([*running, *stirring], self._patience_s()):
                if sentinel is self._woken:
                    continue
                assert isinstance(sentinel, int)
                process = running.pop(sentinel)
                process.join()
                if self._deadline is None:
                    logger.error(
                        "%s ended by itself, with exit code %s: stopping the others",
                        process.name,
                        process.exitcode,
                    )
                    code = code or process.exitcode or EXIT_FAILURE
                    self._stop()
                code = code or process.exitcode or EXIT_OK
            if self._patience_s() == 0 and running:
                logger.error("%d workers do not stop: killing them", len(running))
                code = code or EXIT_FAILURE
                self._kill()
        # A worker that was killed has a negative one, which no process can return.
        return code if code >= 0 else EXIT_FAILURE

    def _patience_s(self) -> float | None:
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - time.monotonic())

    def _stop(self) -> None:
        if self._deadline is None:
            self._deadline = time.monotonic() + self._drain_s + MERCY_S
            for stop in (*self._stops, self._wake):
                stop.close()

    def _kill(self) -> None:
        for process in self._processes:
            if process.is_alive():
                process.kill()
