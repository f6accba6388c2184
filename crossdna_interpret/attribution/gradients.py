"""Integrated gradients and input gradients, split by strand where a model allows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

import numpy as np
import torch

from crossdna_interpret._validation import integer, level_of_caller
from crossdna_interpret.attribution.path_integral import PathIntegral, path_values
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.shuffling import dinucleotide_shuffles
from crossdna_interpret.models.leaves import leaf_of
from crossdna_interpret.models.orientation import ReverseComplemented
from crossdna_interpret.models.protocols import ModelLike, SequenceModel
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.models.training_range import warn_outside_training
from crossdna_interpret.results import Attribution
from crossdna_interpret.results.averaged import average_orientations
from crossdna_interpret.scoring.batches import require_memory, resolve_batch_size
from crossdna_interpret.scoring.forward import evaluation_mode, score_points, stability
from crossdna_interpret.scoring.provenance import certify
from crossdna_interpret.scoring.targets import resolve_target

__all__ = ["input_gradient", "integrated_gradients"]

BaselineName = Literal["auto", "shuffle", "zeros", "uniform"]
Baseline = BaselineName | np.ndarray


@overload
def integrated_gradients(  # type: ignore[overload-overlap]  # a str is a Sequence[str] to the type system
    seq: str,
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    baseline: Baseline = "auto",
    shuffles: int = 8,
    seed: int = 0,
    steps: int = 24,
    max_steps: int = 256,
    tolerance: float = 0.01,
    batch_size: int | None = None,
    rc_average: bool = False,
) -> Attribution: ...
@overload
def integrated_gradients(
    seq: Sequence[str],
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    baseline: Baseline = "auto",
    shuffles: int = 8,
    seed: int = 0,
    steps: int = 24,
    max_steps: int = 256,
    tolerance: float = 0.01,
    batch_size: int | None = None,
    rc_average: bool = False,
) -> list[Attribution]: ...
def integrated_gradients(
    seq: str | Sequence[str],
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    baseline: Baseline = "auto",
    shuffles: int = 8,
    seed: int = 0,
    steps: int = 24,
    max_steps: int = 256,
    tolerance: float = 0.01,
    batch_size: int | None = None,
    rc_average: bool = False,
) -> Attribution | list[Attribution]:
    """Attribute a prediction to the bases by integrating gradients from baselines to the sequence.

    The line integral runs along the inputs of both strands at once (Sundararajan et al. 2017, arXiv 1703.01365). Each
    line is divided into sections of four points (Gauss-Legendre quadrature). In each section, the sum of the
    attributions must be the change in prediction from its start to its end. The sections with the largest errors are
    halved, until the error of each baseline is at most `tolerance` times its change in prediction. If the mean change
    of all baselines is larger, it is used instead. The error is the error of the sum, or the root of the sum of squared
    section errors if that is larger.

    Every baseline has N where the sequence has N, so N gets 0. The check only uses sums over bases: opposite errors of
    two bases in the same section cancel. Use more `steps` to detect them.

    Args:
        seq: one sequence of length L, or a list of them.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        target: name or number of the target. Optional if the model has one target.
        baseline: "shuffle" (mean over several dinucleotide shuffles), "zeros" (no base), "uniform" (a quarter of each
            base), or an array (L, 4) or (K, L, 4) of ACGT channels. "auto" is "shuffle", but "zeros" for models whose
            tokens have several bases, because these allow no other baseline. Dinucleotide shuffles keep the first and
            last base of each span between Ns, so these bases get exactly 0.
        shuffles: number of dinucleotide shuffles.
        seed: seed of the shuffles. The global random state is not used.
        steps: initial number of quadrature points for each baseline.
        max_steps: largest number of quadrature points. If it equals `steps`, the quadrature is fixed. The certificate
            has the largest number that a baseline needed.
        tolerance: largest accepted relative completeness error.
        batch_size: points in a batch. By default it is chosen from the length.
        rc_average: whether to attribute the mean of the predictions for both orientations. The result then has both in
            `orientations` and their difference in `orientation_gap`.

    Returns:
        Attribution with `forward` and `reverse` (L, 4) in the units of the target. A list for a list of sequences.

    Raises:
        ValueError, TypeError: an invalid sequence, target, model, baseline or number.
        MemoryError: a sequence is too long for the available memory. The message has the estimate.

    Warns:
        CompletenessWarning: `max_steps` was too small to reach `tolerance` (the message has the remaining error), or
            the change in prediction is smaller than rounding errors.
        ShuffleWarning: the only dinucleotide shuffle of the sequence is itself, so all attributions are 0.
        OutsideTrainingWarning: a sequence is unlike the training data of the model.
        UnstableModelWarning: the model scores the same sequence differently in different calls.

    Example:
        >>> a = integrated_gradients("ACGTACGTAC", baseline="uniform")
        >>> a.values.shape, a.completeness_error < 0.05
        ((10, 4), True)
    """
    resolved = resolve_model(model)
    index = resolve_target(resolved, target)
    options = {"shuffles": shuffles, "steps": steps, "max_steps": max_steps}
    for name, value in options.items():
        integer(name, value, 1)
    integer("seed", seed)
    if not tolerance > 0:
        raise ValueError(f"`tolerance` must be above 0, but got {tolerance!r}.")
    sequences = alphabet.normalize_many(seq, name="seq")
    warn_outside_training(resolved, sequences, level_of_caller())
    results = []
    with evaluation_mode(resolved) as evaluated:
        models = (evaluated, ReverseComplemented(evaluated)) if rc_average else (evaluated,)
        for sequence in sequences:
            size = resolve_batch_size(resolved, len(sequence), batch_size, gradients=True)
            usual: BaselineName = "shuffle" if leaf_of(evaluated, sequence).per_base else "zeros"
            chosen = usual if isinstance(baseline, str) and baseline == "auto" else baseline
            channels, label = _baselines(sequence, chosen, shuffles, seed)
            at_once = min(size, len(channels) * max(steps, max_steps))
            require_memory(resolved, at_once, len(sequence), gradients=True)
            stable = stability(evaluated, alphabet.encode(sequence), size)
            settings = {"baseline": label, "seed": seed, "tolerance": tolerance, "batch_size": size}
            if label == "shuffle":
                settings["shuffles"] = shuffles
            paths = [PathIntegral(each, index, sequence, channels, size) for each in models]
            result = [path.attribution(steps, max(steps, max_steps), tolerance, settings, stable) for path in paths]
            results.append(average_orientations(*result) if rc_average else result[0])
    return results[0] if alphabet.is_single(seq) else results


@overload
def input_gradient(  # type: ignore[overload-overlap]  # a str is a Sequence[str] to the type system
    seq: str, model: ModelLike = None, *, target: str | int | None = None, rc_average: bool = False
) -> Attribution: ...
@overload
def input_gradient(
    seq: Sequence[str], model: ModelLike = None, *, target: str | int | None = None, rc_average: bool = False
) -> list[Attribution]: ...
def input_gradient(
    seq: str | Sequence[str], model: ModelLike = None, *, target: str | int | None = None, rc_average: bool = False
) -> Attribution | list[Attribution]:
    """Attribute a prediction by the gradient at the sequence itself. This needs one pass and is a linear approximation.

    The value of a base is its gradient minus the mean gradient of the four bases, because the four channels of a
    one-hot input always sum to 1 (Majdandzic et al. 2023, Genome Biology 24:109). The values need not sum to a change
    in prediction. `baseline_prediction` is the prediction minus their sum.

    Args:
        seq: one sequence of length L, or a list of them.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        target: name or number of the target. Optional if the model has one target.
        rc_average: whether to attribute the mean of the predictions for both orientations. See `integrated_gradients`.

    Returns:
        Attribution with `forward` and `reverse` (L, 4), nonzero only at the sequence's own bases. A list
            for a list of sequences.

    Raises:
        ValueError, TypeError: an invalid sequence, target or model.
        MemoryError: a sequence is too long for the available memory. The message has the estimate.

    Warns:
        OutsideTrainingWarning: a sequence is unlike the training data of the model.
        UnstableModelWarning: the model scores the same sequence differently in different calls.

    Example:
        >>> a = input_gradient("ACGTACGTAC")
        >>> (a.values != 0).sum(axis=1).tolist()
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    """
    resolved = resolve_model(model)
    index = resolve_target(resolved, target)
    sequences = alphabet.normalize_many(seq, name="seq")
    warn_outside_training(resolved, sequences, level_of_caller())
    for sequence in sequences:  # check all before any work
        require_memory(resolved, 1, len(sequence), gradients=True)
    with evaluation_mode(resolved) as evaluated:
        models = (evaluated, ReverseComplemented(evaluated)) if rc_average else (evaluated,)
        result = []
        for sequence in sequences:
            stable = stability(evaluated, alphabet.encode(sequence), 1)
            result.append([_slope(each, index, sequence, stable) for each in models])
    results = [average_orientations(*both) if rc_average else both[0] for both in result]
    return results[0] if alphabet.is_single(seq) else results


def _slope(model: SequenceModel, target: int, sequence: str, checks: dict[str, float]) -> Attribution:
    leaf = leaf_of(model, sequence)
    own = alphabet.one_hot(alphabet.encode(sequence), np.float64)
    point = leaf.points(own[None])
    score = float(score_points(model, leaf, point, len(sequence))[0, target])
    gradient = leaf.gradients(point, target)[0].double().cpu().numpy()
    if leaf.per_base:
        gradient[:, :4] -= gradient[:, :4].mean(axis=1, keepdims=True)
    values = gradient * point[0].double().cpu().numpy()
    dtype = np.float64 if model.dtype == torch.float64 else np.float32
    forward, reverse = path_values(leaf, values, dtype)
    settings = {} if leaf.note is None else {"values": leaf.note}
    return Attribution(
        sequence=sequence,
        target=model.targets[target],
        forward=forward,
        reverse=reverse,
        prediction=score,
        baseline_prediction=score - float(forward.sum() + reverse.sum()),
        baseline="gradient",
        certificate=certify(model, "input gradient", settings=settings, checks=checks),
        by_strand=len(leaf.paths) == 2,
    )


def _baselines(sequence: str, baseline: Baseline, shuffles: int, seed: int) -> tuple[np.ndarray, str]:
    """Baselines (K, 5, L) float64, with N where the sequence has N, and a label."""
    own = alphabet.one_hot(alphabet.encode(sequence), np.float64)
    length = len(sequence)
    if isinstance(baseline, np.ndarray):
        stack = baseline[None] if baseline.ndim == 2 else baseline
        if stack.ndim != 3 or stack.shape[1:] != (length, 4) or len(stack) == 0:
            raise ValueError(
                f"`baseline` must be of shape ({length}, 4) or (K, {length}, 4), in the order ACGT, "
                f"but got {baseline.shape}."
            )
        if not np.isfinite(stack).all():
            raise ValueError("`baseline` must be finite, but holds NaN or infinity.")
        channels = np.concatenate([stack.transpose(0, 2, 1), np.zeros((len(stack), 1, length))], axis=1)
        label = "array"
    elif baseline == "shuffle":
        channels, label = alphabet.one_hot(dinucleotide_shuffles(sequence, shuffles, seed), np.float64), "shuffle"
    elif baseline in ("zeros", "uniform"):
        channels = np.zeros((1, 5, length))
        channels[:, :4] = 0.25 if baseline == "uniform" else 0.0
        label = baseline
    else:
        raise ValueError(f"`baseline` must be 'shuffle', 'zeros', 'uniform' or an array, but got {baseline!r}.")
    unknown = own[4] == 1
    channels[:, :, unknown] = own[:, unknown]
    return channels, label
