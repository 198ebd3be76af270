"""Hands jobs to processes of which any may be taken down by the job that it does."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

CRASHED = "crashed"
"""What a job came to that took its process down."""


class _Worker:
    """A process that does one job after another."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.work = work
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()
        self.job: Any = None

    def start(self, job: Any) -> None:
        self.job = job
        self.connection.send(job)

    def result(self) -> Any:
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            return CRASHED


def _serve(connection: Connection, work: Callable[[Any], Any]) -> None:
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(work(job))


def spread(
    work: Callable[[Any], Any], jobs: Iterable[Any], processes: int
) -> Iterator[tuple[Any, Any]]:
    """Yield each job with its result, or with `CRASHED`, in the order in which they end.

    `work` is a function of a module; jobs and results can be pickled.
    """
    waiting = iter(jobs)
    busy: list[_Worker] = []
    for _, job in zip(range(processes), waiting, strict=False):
        busy.append(_Worker(work))
        busy[-1].start(job)
    while busy:
        ready = wait([worker.connection for worker in busy])
        for worker in [worker for worker in busy if worker.connection in ready]:
            job, result = worker.job, worker.result()
            busy.remove(worker)
            yield job, result
            for following in waiting:
                heir = _Worker(work) if result == CRASHED else worker
                heir.start(following)
                busy.append(heir)
                break
            else:
                worker.connection.close()
