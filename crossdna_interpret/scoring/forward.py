"""Checked forward passes, and the check that a model is stable."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from crossdna_interpret.dna import alphabet
from crossdna_interpret.models.evaluation import in_evaluation_mode
from crossdna_interpret.models.fingerprint import attributes_of, fingerprint, note_what_changes
from crossdna_interpret.models.hooks import hooked
from crossdna_interpret.models.inputs import Bpe, inputs_of
from crossdna_interpret.models.leaves import Leaf
from crossdna_interpret.models.orientation import ReverseComplemented
from crossdna_interpret.models.protocols import Concurrency, SequenceModel, capability
from crossdna_interpret.parallel import alone, spread_over_threads
from crossdna_interpret.scoring.batches import POSITIONS, runs_in_threads
from crossdna_interpret.scoring.stability import check_stability

__all__ = [
    "checked_scores",
    "evaluation_mode",
    "real_scores",
    "rounding_unit",
    "score_ids",
    "score_points",
    "stability",
]

Model = TypeVar("Model", bound=SequenceModel)


@contextmanager
def evaluation_mode(model: Model) -> Iterator[Model]:
    """Context that yields a view of the model in evaluation mode.

    It disables the caller's autocast and inference mode, so they cannot change a result. The model itself does not
    change.
    """
    assert isinstance(model, nn.Module)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for device in {"cpu", model.device.type}:
            stack.enter_context(torch.autocast(device, enabled=False))
        yield in_evaluation_mode(model)


def score_ids(model: SequenceModel, ids: np.ndarray) -> np.ndarray:
    """Scores (N, T) of ids (N, L), computed in one batch without gradients.

    The dtype is float64 for models that return float64 or integers of 32 bits or more, and float32 otherwise.

    Raises:
        ValueError: the model returned a wrong shape, or scores that are complex or not finite.
    """
    batch = inputs_of(model).batch(ids, device=model.device, dtype=model.dtype)
    return _score(model, lambda: model(*batch), len(ids), ids.size).cpu().numpy()


def _score(model: SequenceModel, compute: Callable[[], Tensor], n: int, positions: int) -> Tensor:
    """Scores (n, T), computed without gradients: in one thread for few positions, in several threads otherwise."""

    def forward() -> Tensor:
        with torch.no_grad():
            return compute()

    if not runs_in_threads(model):
        scores = forward()
    elif positions <= POSITIONS["cpu"]:
        scores = alone(forward)
    else:
        with spread_over_threads(True):
            scores = forward()
    return checked_scores(model, scores, n)


def score_points(model: SequenceModel, leaf: Leaf, points: Tensor, length: int) -> Tensor:
    """Scores (n, T) of points (n, ...) of a leaf, without gradients. Dtype and errors as in `score_ids`.

    `length` is the length of the sequences.
    """
    return _score(model, lambda: leaf.scores(points), len(points), len(points) * length)


def checked_scores(model: SequenceModel, scores: Any, n: int) -> Tensor:
    """Check the scores of `n` sequences and convert them to float32 or float64.

    Raises:
        ValueError: a wrong shape, or scores that are complex or not finite.
    """
    expected = (n, len(model.targets))
    if not isinstance(scores, Tensor) or tuple(scores.shape) != expected:
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(
            f"`model` must return scores of shape {expected}, one column per target, but returned {shape}."
        )
    scores = real_scores(scores, model.name)
    if not torch.isfinite(scores).all():
        raise ValueError(f"`model` {model.name} returned scores that are NaN or infinite.")
    return scores


_watched: weakref.WeakKeyDictionary[nn.Module, set[int]] = weakref.WeakKeyDictionary()  # model -> lengths


def stability(model: SequenceModel, ids: np.ndarray, size: int) -> dict[str, float]:
    """Run `check_stability` with batches of `size`, unless the model is known to be stable.

    Nothing is checked while hooks are active.
    """
    assert isinstance(model, nn.Module)
    concurrency = capability(model, Concurrency)
    if isinstance(model, ReverseComplemented) or hooked(model) or (concurrency and concurrency.problem() is None):
        return {}
    watched = _watched.setdefault(model, set())
    # Find the attributes that a forward pass changes. The fingerprint below must leave them out.
    if len(ids) not in watched:
        before = attributes_of(model), attributes_of(model)
        # Score a different sequence: for the same one, the attributes might already hold their new values.
        others = np.random.default_rng(1).integers(0, 4, len(ids)), ids[::-1]
        score_ids(model, next((each for each in others if _accepts(model, each)), ids)[None])
        note_what_changes(model, before)
        watched.add(len(ids))
    own = fingerprint(model)
    return check_stability(
        model.name,
        ids,
        lambda batch: score_ids(model, batch),
        accepts=lambda each: _accepts(model, each),
        digest=own.digest,
        known=not own.opaque,
        eps=rounding_unit(model.dtype),
        size=size,
    )


def _accepts(model: SequenceModel, ids: np.ndarray) -> bool:
    """Whether a model accepts ids (L,). Only a model of tokens may accept one sequence of a length and not another."""
    inputs = inputs_of(model)
    if not isinstance(inputs, Bpe):
        return True
    try:
        inputs.tokens(alphabet.decode(ids))
    except ValueError:
        return False
    return True


def rounding_unit(dtype: torch.dtype) -> float:
    """Machine epsilon of `dtype`, or of float32 if `dtype` is not a floating-point type."""
    return torch.finfo(dtype if dtype.is_floating_point else torch.float32).eps


def real_scores(scores: Tensor, name: str) -> Tensor:
    """Scores as float32, or as float64 if float32 would round them.

    The conversion is needed because differences of unsigned integers would wrap around.

    Raises:
        ValueError: complex scores.
    """
    if scores.is_complex():
        raise ValueError(f"`model` {name} must return real scores, but returned {scores.dtype}.")
    wide = scores.dtype in (torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64)
    return scores.to(torch.float64 if wide else torch.float32)
