"""From strings to scores: which model, which target, in which batches, and whether memory will do.

Every model takes one-hot channels (N, 5, L) in the order ACGTN and gives scores (N, T).
"""

from __future__ import annotations

import bisect
import difflib
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from crossdna_interpret import alphabet
from crossdna_interpret.arguments import integer
from crossdna_interpret.averaging import ReverseComplemented
from crossdna_interpret.models.store import load_model
from crossdna_interpret.progress import progress
from crossdna_interpret.results import Certificate
from crossdna_interpret.training_range import warn_outside_training

__all__ = ["ModelLike", "SequenceModel", "predict"]

# Positions in one batch. Larger batches fall out of the processor's caches and are slower.
_POSITIONS = {"cpu": 4096, "cuda": 262144}


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
def evaluation_mode(model: SequenceModel) -> Iterator[None]:
    """Evaluation mode in the body; afterwards every submodule is in the mode it was in."""
    assert isinstance(model, nn.Module)
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


def resolve_batch_size(model: SequenceModel, length: int, batch_size: int | None, *, gradients: bool = False) -> int:
    """The number of sequences of `length` to run at once, as asked for, or chosen for speed within half the memory."""
    if batch_size is None:
        size = max(1, _POSITIONS.get(model.device.type, 4096) // length)
        estimate = getattr(model, "memory_estimate", None)
        if estimate is not None and size > 1:
            fitting = available_memory(model.device) // 2 // max(1, estimate(1, length, gradients=gradients))
            size = max(1, min(size, fitting))
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


def score_ids(model: SequenceModel, ids: np.ndarray) -> np.ndarray:
    """Scores (N, T) of ids (N, L) in one batch, without gradients.

    Raises:
        ValueError: the model returned another shape, or scores that are not finite.
    """
    x = torch.from_numpy(alphabet.one_hot(ids)).to(device=model.device, dtype=model.dtype)
    return score_channels(model, x).cpu().numpy()


def score_channels(model: SequenceModel, x: Tensor) -> Tensor:
    """Scores (N, T) of channels (N, 5, L) in one batch, without gradients; checked as in `score_ids`."""
    with torch.no_grad():
        scores = model(x)
    expected = (len(x), len(model.targets))
    if not isinstance(scores, Tensor) or tuple(scores.shape) != expected:
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(
            f"`model` must return scores of shape {expected}, one column per target, but returned {shape}."
        )
    if not torch.isfinite(scores).all():
        raise ValueError(f"`model` {model.name} returned scores that are NaN or infinite.")
    return scores


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
        (N, T) array in the model's dtype (float32 unless it was loaded in float64), rows in the order given, in the
        units of the model's targets.

    Raises:
        ValueError, TypeError: bad sequences, named by their index; an unknown model.
        MemoryError: a sequence too long for the memory at hand, with the estimate.

    Warns:
        OutsideTrainingWarning: a sequence is unlike what the model was trained on.

    Example:
        >>> predict(["ACGT" * 41, "acguN"]).shape
        (2, 1)
    """
    normal = alphabet.normalize_many(seqs)
    resolved = resolve_model(model)
    warn_outside_training(resolved, normal, level_of_caller())
    if rc_average:
        asked = resolved, ReverseComplemented(resolved)
        as_given, turned = (predict(normal, each, batch_size=batch_size) for each in asked)
        return np.asarray((as_given + turned) / 2)
    by_length: dict[int, list[int]] = {}
    for index, seq in enumerate(normal):
        by_length.setdefault(len(seq), []).append(index)
    sizes = {length: resolve_batch_size(resolved, length, batch_size) for length in by_length}
    for length, rows in by_length.items():
        require_memory(resolved, min(sizes[length], len(rows)), length)
    scores: list[np.ndarray] = [np.empty(0)] * len(normal)
    with evaluation_mode(resolved), progress(len(normal), "predict", "sequence") as bar:
        for length, rows in by_length.items():
            for first in range(0, len(rows), sizes[length]):
                batch = rows[first : first + sizes[length]]
                ids = np.stack([alphabet.encode(normal[row]) for row in batch])
                for row, score in zip(batch, score_ids(resolved, ids), strict=True):
                    scores[row] = score
                bar.update(len(batch))
    return np.stack(scores)


def model_hash(model: SequenceModel) -> str:
    """SHA-256 over the names and bytes of the weights, and the config if the model has one."""
    if isinstance(model, ReverseComplemented):
        return model_hash(model.model)
    assert isinstance(model, nn.Module)
    digest = hashlib.sha256()
    config = getattr(model, "config", None)
    if config is not None and hasattr(config, "to_dict"):
        digest.update(json.dumps(config.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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
            "crossdna_interpret": metadata.version("crossdna_interpret"),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        settings=dict(settings),
        checks=dict(checks),
    )


def level_of_caller() -> int:
    """The `stacklevel`, for a warning raised by whoever calls this, of the first frame outside of the package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == __name__.split(".")[0]:
        level, frame = level + 1, frame.f_back
    return level
