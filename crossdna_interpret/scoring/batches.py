"""Batch size, threads and available memory."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from typing import TypeVar

import psutil
import torch

from crossdna_interpret._validation import integer
from crossdna_interpret.models.inputs import inputs_of
from crossdna_interpret.models.protocols import Concurrency, Memory, SequenceModel, capability
from crossdna_interpret.parallel import alone

__all__ = [
    "POSITIONS",
    "available_memory",
    "in_one_thread",
    "require_length",
    "require_memory",
    "resolve_batch_size",
    "runs_in_threads",
    "threads_for",
]

# Positions in one batch. Larger batches do not fit the processor's caches and are slower.
POSITIONS = {"cpu": 4096, "cuda": 262144}
Result = TypeVar("Result")


def resolve_batch_size(model: SequenceModel, length: int, batch_size: int | None, *, gradients: bool = False) -> int:
    """Number of sequences of `length` in a batch.

    This is `batch_size`, or if that is None, a fast size that needs at most half the available memory.
    """
    if batch_size is None:
        size = max(1, POSITIONS.get(model.device.type, 4096) // length)
        memory = capability(model, Memory)
        if memory is not None and size > 1:
            threads = torch.get_num_threads() if runs_in_threads(model) else 1
            fitting = available_memory(model.device) // 2 // max(1, memory.needed(1, length, gradients=gradients))
            size = max(1, min(size, fitting // threads))
        return size
    return integer("batch_size", batch_size, 1)


def available_memory(device: torch.device) -> int:
    """Bytes of memory that are free on `device` now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def require_length(model: SequenceModel, length: int) -> None:
    """Check that the model accepts sequences of this length.

    Raises:
        ValueError: it does not.
    """
    expected = inputs_of(model).expected(length)
    if expected is not None:
        raise ValueError(f"`seq` must have {expected}, which {model.name} takes, but has {length:,}.")


def require_memory(model: SequenceModel, n: int, length: int, *, gradients: bool = False) -> None:
    """Check before a computation that the model accepts the length and that the memory suffices.

    Raises:
        ValueError: the model does not accept this length.
        MemoryError: not enough memory. The message states the estimate, the available memory and the longest
            sequence that would fit.
    """
    require_length(model, length)
    memory = capability(model, Memory)
    if memory is None:
        return
    need, have = memory.needed(n, length, gradients=gradients), available_memory(model.device)
    if need > have:

        def bytes_for(shorter: int) -> int:
            return memory.needed(n, shorter, gradients=gradients)

        fitting = bisect.bisect_right(range(length), have, key=bytes_for) - 1
        raise MemoryError(
            f"A sequence of {length:,} bases in batches of {n} needs about {need / 1e9:.1f} GB, and "
            f"{have / 1e9:.1f} GB is available. About {max(fitting, 0):,} bases would fit; "
            "use a smaller `batch_size` or a shorter sequence."
        )


def in_one_thread(model: SequenceModel, compute: Callable[[], Result]) -> Result:
    """Run `compute`, with a single PyTorch thread if the model can run in threads."""
    return alone(compute) if runs_in_threads(model) else compute()


def threads_for(model: SequenceModel, n: int, length: int, *, gradients: bool = False) -> int:
    """Number of batches of `n` sequences to compute in parallel. It is 1 for a model that cannot run in threads."""
    if not runs_in_threads(model):
        return 1
    memory = capability(model, Memory)
    most = torch.get_num_threads()
    if memory is not None:
        most = min(most, available_memory(model.device) // max(1, memory.needed(n, length, gradients=gradients)))
    return max(1, most)


def runs_in_threads(model: SequenceModel) -> bool:
    """Whether several threads may use the model at once: it must declare `Concurrency` and be on the CPU."""
    concurrency = capability(model, Concurrency)
    return model.device.type == "cpu" and concurrency is not None and concurrency.problem() is None
