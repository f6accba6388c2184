"""From strings to scores: which model, which target, in which batches, and whether memory will do.

Every model takes one-hot channels (N, 5, L) in the order ACGTN and gives scores (N, T).
"""

from __future__ import annotations

import bisect
import difflib
import functools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from crossdna_interpret import alphabet
from crossdna_interpret.arguments import integer, level_of_caller
from crossdna_interpret.averaging import ReverseComplemented
from crossdna_interpret.evaluation import in_evaluation_mode
from crossdna_interpret.fingerprint import attributes_of, fingerprint, note_what_changes
from crossdna_interpret.hooks import hooked
from crossdna_interpret.models.store import load_model
from crossdna_interpret.parallel import alone, for_each, spread_over_threads
from crossdna_interpret.progress import progress
from crossdna_interpret.results import Certificate
from crossdna_interpret.stability import check_stability
from crossdna_interpret.training_range import shown_elsewhere, warn_outside_training

__all__ = ["ModelLike", "SequenceModel", "predict"]

# Positions in one batch. Larger batches fall out of the processor's caches and are slower.
_POSITIONS = {"cpu": 4096, "cuda": 262144}
VERSION = metadata.version("crossdna_interpret")
_WORTH_SPREADING = 1024  # positions in all from which on several threads pay


@runtime_checkable
class SequenceModel(Protocol):
    """What an analysis needs of a model; an ``nn.Module`` with these attributes will do.

    Optional: ``forward_strands(x_forward, x_reverse)``, scores as a function of each strand's channels, which splits
    attributions by strand; ``memory_estimate(n, length, gradients)``, bytes that a forward pass needs;
    ``training_range``, a `TrainingRange`, outside of which analyses warn.

    Example:
        >>> import crossdna_interpret as cdi
        >>> isinstance(cdi.load_model(), cdi.SequenceModel)
        True
    """

    targets: tuple[str, ...]
    name: str

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __call__(self, x: Tensor, /) -> Tensor: ...


ModelLike = SequenceModel | str | Path | None
Model = TypeVar("Model", bound=SequenceModel)
Result = TypeVar("Result")


@functools.lru_cache(maxsize=1)
def _default_model() -> SequenceModel:
    return load_model()


def resolve_model(model: ModelLike) -> SequenceModel:
    """The model that an argument stands for: itself, one to load by name or path, or the bundled default for None."""
    if model is None:
        return _default_model()
    if isinstance(model, (str, Path)):
        return load_model(model)
    if isinstance(model, nn.Module) and isinstance(model, SequenceModel):
        return model
    raise TypeError(
        "`model` must be None, a name or path for load_model, or a torch module with `targets`, `name`, `device` and "
        f"`dtype`, but got {type(model).__name__}."
    )


def resolve_target(model: SequenceModel, target: str | int | None) -> int:
    """Index of a target given by name or number; None is the model's only target.

    Raises:
        ValueError: unknown (near matches are listed), or None where the model has several.
    """
    targets = list(model.targets)
    if target is None:
        if len(targets) > 1:
            raise ValueError(f"`target` must be given: {model.name} has {len(targets)}: {', '.join(targets[:20])}.")
        return 0
    if isinstance(target, str):
        if target in targets:
            return targets.index(target)
        near = difflib.get_close_matches(target, targets, cutoff=0.4) or targets[:20]
        raise ValueError(f"`target` {target!r} is unknown to {model.name}. Near matches: {', '.join(near)}.")
    if isinstance(target, (int, np.integer)) and not isinstance(target, bool):
        if 0 <= target < len(targets):
            return int(target)
        raise ValueError(f"`target` must be from 0 to {len(targets) - 1}, but got {target}: {', '.join(targets[:20])}.")
    raise TypeError(f"`target` must be a name, a number or None, but got {type(target).__name__}.")


@contextmanager
def evaluation_mode(model: Model) -> Iterator[Model]:
    """A view of the model in evaluation mode, in the body computed with in its own dtype, with gradients to be had.

    So neither the caller's autocast nor inference mode changes a result. The model itself stays as it is.
    """
    assert isinstance(model, nn.Module)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for device in {"cpu", model.device.type}:
            stack.enter_context(torch.autocast(device, enabled=False))
        yield in_evaluation_mode(model)


def resolve_batch_size(model: SequenceModel, length: int, batch_size: int | None, *, gradients: bool = False) -> int:
    """The number of sequences of `length` to run at once, as asked for, or chosen for speed within half the memory."""
    if batch_size is None:
        size = max(1, _POSITIONS.get(model.device.type, 4096) // length)
        estimate = getattr(model, "memory_estimate", None)
        if estimate is not None and size > 1:
            threads = torch.get_num_threads() if runs_in_threads(model) else 1
            fitting = available_memory(model.device) // 2 // max(1, estimate(1, length, gradients=gradients))
            size = max(1, min(size, fitting // threads))
        return size
    return integer("batch_size", batch_size, 1)


def available_memory(device: torch.device) -> int:
    """Bytes that a computation on `device` may take now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def require_memory(model: SequenceModel, n: int, length: int, *, gradients: bool = False) -> None:
    """Refuse a computation that would not fit, before it starts.

    Raises:
        MemoryError: with the estimate, what is available, and the longest sequence that would fit.
    """
    estimate: Callable[..., int] | None = getattr(model, "memory_estimate", None)
    if estimate is None:
        return
    need, have = estimate(n, length, gradients=gradients), available_memory(model.device)
    if need > have:
        lengths = range(length)
        fitting = bisect.bisect_right(lengths, have, key=lambda shorter: estimate(n, shorter, gradients=gradients)) - 1
        raise MemoryError(
            f"A sequence of {length:,} bases in batches of {n} needs about {need / 1e9:.1f} GB, and "
            f"{have / 1e9:.1f} GB is available. About {max(fitting, 0):,} bases would fit; "
            "use a smaller `batch_size` or a shorter sequence."
        )


def in_one_thread(model: SequenceModel, compute: Callable[[], Result]) -> Result:
    """Compute something with a model, with one thread of PyTorch if the model runs in threads at all."""
    return alone(compute) if runs_in_threads(model) else compute()


def threads_for(model: SequenceModel, n: int, length: int, *, gradients: bool = False) -> int:
    """How many batches of `n` sequences can be computed at once: 1 for a model that does not run in threads."""
    if not runs_in_threads(model):
        return 1
    estimate: Callable[..., int] | None = getattr(model, "memory_estimate", None)
    most = torch.get_num_threads()
    if estimate is not None:
        most = min(most, available_memory(model.device) // max(1, estimate(n, length, gradients=gradients)))
    return max(1, most)


def score_ids(model: SequenceModel, ids: np.ndarray) -> np.ndarray:
    """Scores (N, T) of ids (N, L) in one batch, without gradients: float64 of float64 and wide integers, or float32.

    Raises:
        ValueError: the model returned another shape, or scores that are complex or not finite.
    """
    x = torch.from_numpy(alphabet.one_hot(ids)).to(device=model.device, dtype=model.dtype)
    return score_channels(model, x).cpu().numpy()


def score_channels(model: SequenceModel, x: Tensor) -> Tensor:
    """Scores (N, T) of channels (N, 5, L) in one batch, without gradients; checked as in `score_ids`."""

    def forward() -> Tensor:
        with torch.no_grad():
            return model(x)

    if not runs_in_threads(model):
        scores = forward()
    elif len(x) * x.shape[-1] <= _POSITIONS["cpu"]:
        scores = alone(forward)
    else:
        with spread_over_threads(True):
            scores = forward()
    expected = (len(x), len(model.targets))
    if not isinstance(scores, Tensor) or tuple(scores.shape) != expected:
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(
            f"`model` must return scores of shape {expected}, one column per target, but returned {shape}."
        )
    scores = real_scores(scores, model.name)
    if not torch.isfinite(scores).all():
        raise ValueError(f"`model` {model.name} returned scores that are NaN or infinite.")
    return scores


_watched: weakref.WeakKeyDictionary[nn.Module, set[int]] = weakref.WeakKeyDictionary()  # models, at lengths


def stability(model: SequenceModel, ids: np.ndarray, size: int) -> dict[str, float]:
    """Checks of `check_stability` in batches of `size`, for a model that is not known to be stable.

    Nothing is checked while hooks watch.
    """
    assert isinstance(model, nn.Module)
    if bool(getattr(model, "runs_in_threads", False)) or isinstance(model, ReverseComplemented) or hooked(model):
        return {}
    watched = _watched.setdefault(model, set())
    if len(ids) not in watched:  # before the hash is taken, which is of what was there before a forward pass
        before = attributes_of(model), attributes_of(model)
        # Of another sequence: what is written may already be that of this one.
        score_ids(model, np.random.default_rng(1).integers(0, 4, (1, len(ids))))
        note_what_changes(model, before)
        watched.add(len(ids))
    own = fingerprint(model)
    return check_stability(
        model.name,
        ids,
        lambda batch: score_ids(model, batch),
        digest=own.digest,
        known=not own.opaque,
        eps=rounding_unit(model.dtype),
        size=size,
    )


def rounding_unit(dtype: torch.dtype) -> float:
    """Of numbers that a model computes with; of float32 where its weights are no floating-point numbers."""
    return torch.finfo(dtype if dtype.is_floating_point else torch.float32).eps


def real_scores(scores: Tensor, name: str) -> Tensor:
    """Scores as float32, or as float64 where float32 would round them. Differences of unsigned ones would wrap around.

    Raises:
        ValueError: complex scores.
    """
    if scores.is_complex():
        raise ValueError(f"`model` {name} must return real scores, but returned {scores.dtype}.")
    wide = scores.dtype in (torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64)
    return scores.to(torch.float64 if wide else torch.float32)


def runs_in_threads(model: SequenceModel) -> bool:
    """Whether several threads may compute with the model at once; only what says so of itself, on the CPU."""
    return model.device.type == "cpu" and bool(getattr(model, "runs_in_threads", False))


def predict(
    seqs: str | Sequence[str], model: ModelLike = None, *, batch_size: int | None = None, rc_average: bool = False
) -> np.ndarray:
    """Score sequences.

    Args:
        seqs: one sequence or N, of any lengths; A, C, G, T, U, N in either case.
        model: a model, a name or path for `load_model`, or None for the bundled one.
        batch_size: sequences at once; chosen from their length if not given.
        rc_average: whether to give the mean of each sequence's scores and of those of its reverse complement.

    Returns:
        (N, T) array of float32 (float64 of a model in float64, or with scores that are wide integers), rows in the
        order given, in the units of the model's targets.

    Raises:
        ValueError, TypeError: bad sequences, named by their index; an unknown model.
        MemoryError: a sequence too long for the memory at hand, with the estimate.

    Warns:
        OutsideTrainingWarning: a sequence is unlike what the model was trained on.
        UnstableModelWarning: the model gives one sequence different scores.

    Example:
        >>> predict(["ACGT" * 41, "acguN"]).shape
        (2, 1)
    """
    normal = alphabet.normalize_many(seqs)
    resolved = resolve_model(model)
    warn_outside_training(resolved, normal, level_of_caller())
    if rc_average:
        with shown_elsewhere():  # it has been
            own = predict(normal, resolved, batch_size=batch_size)
            reverse = predict(normal, ReverseComplemented(resolved), batch_size=batch_size)
        return np.asarray((own + reverse) / 2)
    by_length: dict[int, list[int]] = {}
    for index, seq in enumerate(normal):
        by_length.setdefault(len(seq), []).append(index)
    sizes = {length: resolve_batch_size(resolved, length, batch_size) for length in by_length}
    if batch_size is None and runs_in_threads(resolved):  # a batch at least for each thread
        for length, rows in by_length.items():
            if length * len(rows) >= _WORTH_SPREADING:
                sizes[length] = min(sizes[length], -(-len(rows) // torch.get_num_threads()))
    for length, rows in by_length.items():
        require_memory(resolved, min(sizes[length], len(rows)), length)
    scores: list[np.ndarray] = [np.empty(0)] * len(normal)
    batches = [
        rows[first : first + sizes[length]]
        for length, rows in by_length.items()
        for first in range(0, len(rows), sizes[length])
    ]
    with evaluation_mode(resolved) as evaluated, progress(len(normal), "predict", "sequence") as bar:
        length = len(normal[0])
        stability(evaluated, alphabet.encode(normal[0]), min(sizes[length], len(by_length[length])))

        def score(batch: list[int]) -> np.ndarray:
            return score_ids(evaluated, np.stack([alphabet.encode(normal[row]) for row in batch]))

        def keep(batch: list[int], found: np.ndarray) -> None:
            for row, of_row in zip(batch, found, strict=True):
                scores[row] = of_row
            bar.update(len(batch))

        threads = min(threads_for(evaluated, min(sizes[each], len(rows)), each) for each, rows in by_length.items())
        for_each(batches, score, keep, threads=min(threads, len(batches)))
    return np.stack(scores)


def model_hash(model: SequenceModel) -> str:
    """SHA-256 of a model's weights and of all else that changes its scores; see `fingerprint`."""
    if isinstance(model, ReverseComplemented):
        return model_hash(model.model)
    assert isinstance(model, nn.Module)
    return fingerprint(in_evaluation_mode(model)).digest


def _precision(model: SequenceModel) -> dict[str, str]:
    """PyTorch's setting for products of float32, where it is not the exact one."""
    precision = torch.get_float32_matmul_precision()
    return {} if precision == "highest" or model.dtype != torch.float32 else {"float32_matmul_precision": precision}


def certify(
    model: SequenceModel, method: str, *, settings: Mapping[str, Any], checks: Mapping[str, float]
) -> Certificate:
    """The certificate of a result that `model` has just given."""
    return Certificate(
        method=method,
        model=model.name,
        model_hash=model_hash(model),
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        versions={
            "crossdna_interpret": VERSION,
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        settings={**settings, **_precision(model)},
        checks=dict(checks),
    )
