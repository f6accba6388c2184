"""Batches in several threads.

PyTorch shares out each operation over its threads, which then wait for one another at the end of it, thousands of times
a second. Where other programs are busy, a thread that is not running keeps the others waiting each time. A batch to a
thread waits once, at the end, and costs less on an idle machine, too.
"""

from __future__ import annotations

import contextvars
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

__all__ = ["alone", "for_each", "spread_over_threads", "threads_to_spread_over"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_spread: ContextVar[bool] = ContextVar("spread_over_threads", default=False)
_lock = threading.Lock()
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def for_each(
    items: Iterable[Item],
    compute: Callable[[Item], Result],
    receive: Callable[[Item, Result], None],
    *,
    threads: int | None = None,
) -> None:
    """Compute something of each item in several threads, and receive each result in this one.

    In those threads PyTorch computes with one thread each. When this returns nothing runs any more, also after an
    error. Context variables are those of the caller. What PyTorch keeps for each thread, such as the mode of gradients,
    autocast or a default device, is not.

    Args:
        items: taken one by one in this thread, each when a thread is free for it.
        compute: of one item. It must be safe to call from several threads.
        receive: called with an item and what was computed of it, in the order in which results are ready. What it
            raises ends the work; what `compute` raises does so after what is ready has been received.
        threads: at most so many; as many as PyTorch has if not given. With 1 everything is done in this thread.
    """
    available = torch.get_num_threads()  # 1 where an item is computed itself
    threads = available if threads is None else min(threads, available)
    if threads <= 1:
        for item in items:
            receive(item, compute(item))
        return
    pool, rest = _pool(available), iter(items)
    running: dict[Future[Result], Item] = {}

    def start(most: int) -> None:
        for item in itertools.islice(rest, most):
            running[pool.submit(contextvars.copy_context().run, compute, item)] = item

    receiving = False
    try:
        start(threads)
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                item, result = running.pop(future), future.result()
                receiving = True
                receive(item, result)
                receiving = False
                start(1)
    finally:
        for future in running:
            future.cancel()
        wait(running)
        if not receiving:  # what is ready after an error or an interrupt is not lost
            for future, item in running.items():
                if not future.cancelled() and future.exception() is None:
                    receive(item, future.result())


def alone(compute: Callable[[], Result]) -> Result:
    """Compute something with one thread of PyTorch. It must not depend on what PyTorch keeps for each thread."""
    if torch.get_num_threads() == 1:
        return compute()
    pool = _pool(torch.get_num_threads())
    future = pool.submit(contextvars.copy_context().run, compute)
    try:
        return future.result()
    finally:  # also after an interrupt: nothing runs any more when this returns
        future.cancel()
        wait([future])


@contextmanager
def spread_over_threads(allowed: bool) -> Iterator[None]:
    """In the body, whether a model may compute parts of one forward pass in several threads, without gradients."""
    token = _spread.set(allowed)
    try:
        yield
    finally:
        _spread.reset(token)


def threads_to_spread_over() -> int:
    """How many threads parts of a forward pass may be computed in; 1 where they must stay in this one.

    Gradients, captured graphs, and what watches each operation, such as a counter of them, belong to a thread.
    """
    watched = torch._C._len_torch_dispatch_stack() > 0 or torch.compiler.is_compiling()
    return 1 if torch.is_grad_enabled() or watched or not _spread.get() else torch.get_num_threads()


def _pool(count: int) -> ThreadPoolExecutor:
    with _lock:
        key = os.getpid(), count  # a forked process has no threads but the one that forked
        if key not in _pools:
            _pools[key] = ThreadPoolExecutor(count, "crossdna", initializer=_compute_with_one_thread)
        return _pools[key]


def _compute_with_one_thread() -> None:
    """Let PyTorch use one thread in this one, and as many as before in those that others start later.

    `torch.set_num_threads` sets both; setting the old number in a thread that then ends sets the second alone.
    """
    with _lock:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        other = threading.Thread(target=torch.set_num_threads, args=(before,))
        other.start()
        other.join()
