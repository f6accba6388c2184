"""Batches in several threads.

PyTorch splits each operation over its threads. They wait for each other after every operation, thousands of times a
second. On a busy machine, one paused thread delays the others each time. With one batch for each thread, the threads
wait only once, at the end. This is faster on an idle machine, too.
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
    """Compute each item in one of several threads, and receive the results in this thread.

    In each of these threads, PyTorch uses a single thread. When this returns, all computation has ended, also after an
    error. Context variables are those of the caller. Per-thread state of PyTorch is not: grad mode, autocast, default
    device.

    Args:
        items: items to compute. This thread takes the next one when a thread is free.
        compute: function of one item. It must be thread-safe.
        receive: called with an item and its result, in the order of completion. An error in it ends the work. After an
            error in `compute`, finished results are received before the work ends.
        threads: largest number of threads. The default is the number of PyTorch threads. With 1, this thread does all
            the work.
    """
    available = torch.get_num_threads()  # 1 inside another `for_each`
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
        if not receiving:  # after an error or interrupt, keep the finished results
            for future, item in running.items():
                if not future.cancelled() and future.exception() is None:
                    receive(item, future.result())


def alone(compute: Callable[[], Result]) -> Result:
    """Run `compute` with a single PyTorch thread. It must not depend on per-thread state of PyTorch."""
    if torch.get_num_threads() == 1:
        return compute()
    pool = _pool(torch.get_num_threads())
    future = pool.submit(contextvars.copy_context().run, compute)
    try:
        return future.result()
    finally:  # nothing may run after this returns, also after an interrupt
        future.cancel()
        wait([future])


@contextmanager
def spread_over_threads(allowed: bool) -> Iterator[None]:
    """Context that sets whether a model may split a forward pass without gradients over several threads."""
    token = _spread.set(allowed)
    try:
        yield
    finally:
        _spread.reset(token)


def threads_to_spread_over() -> int:
    """Number of threads over which a forward pass may be split, or 1 if it must stay in this thread.

    Gradients, graph capture and dispatch modes, such as an operation counter, are per thread.
    """
    watched = torch._C._len_torch_dispatch_stack() > 0 or torch.compiler.is_compiling()
    return 1 if torch.is_grad_enabled() or watched or not _spread.get() else torch.get_num_threads()


def _pool(count: int) -> ThreadPoolExecutor:
    with _lock:
        key = os.getpid(), count  # a forked process has only the thread that forked
        if key not in _pools:
            _pools[key] = ThreadPoolExecutor(count, "crossdna", initializer=_compute_with_one_thread)
        return _pools[key]


def _compute_with_one_thread() -> None:
    """Let PyTorch use a single thread in this thread, but not in threads that start later.

    `torch.set_num_threads` sets both numbers. To restore the second one, a temporary thread sets the old number.
    """
    with _lock:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        other = threading.Thread(target=torch.set_num_threads, args=(before,))
        other.start()
        other.join()
