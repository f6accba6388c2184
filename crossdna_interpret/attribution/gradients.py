"""Integrated gradients, split by the strand path through which each base acts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor

from crossdna_interpret import alphabet, strand
from crossdna_interpret.arguments import integer
from crossdna_interpret.averaging import ReverseComplemented, averaged
from crossdna_interpret.parallel import for_each
from crossdna_interpret.progress import progress
from crossdna_interpret.results import Attribution, CompletenessWarning
from crossdna_interpret.scoring import (
    ModelLike,
    SequenceModel,
    certify,
    evaluation_mode,
    level_of_caller,
    require_memory,
    resolve_batch_size,
    resolve_model,
    resolve_target,
    rounding_unit,
    score_channels,
    stability,
    threads_for,
)
from crossdna_interpret.shuffling import dinucleotide_shuffles
from crossdna_interpret.training_range import warn_outside_training

__all__ = ["input_gradient", "integrated_gradients"]

BaselineName = Literal["shuffle", "zeros", "uniform"]
Baseline = BaselineName | np.ndarray
_ROUNDINGS = 8  # of a score, in units of the last place, that a forward pass may be off by


@overload
def integrated_gradients(  # type: ignore[overload-overlap]  # a str is a Sequence[str] to the type system
    seq: str,
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    baseline: Baseline = "shuffle",
    shuffles: int = 8,
    seed: int = 0,
    steps: int = 32,
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
    baseline: Baseline = "shuffle",
    shuffles: int = 8,
    seed: int = 0,
    steps: int = 32,
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
    baseline: Baseline = "shuffle",
    shuffles: int = 8,
    seed: int = 0,
    steps: int = 32,
    max_steps: int = 256,
    tolerance: float = 0.01,
    batch_size: int | None = None,
    rc_average: bool = False,
) -> Attribution | list[Attribution]:
    """Share a prediction out over the bases by integrating gradients from baselines to the sequence.

    The line integral is taken by Gauss-Legendre quadrature along both strands' inputs at once (Sundararajan et al.
    2017, arXiv 1703.01365). Steps are doubled, for each baseline by itself, until its sum is off by at most `tolerance`
    of its change in prediction, or of the mean change of all baselines where that is larger. Every baseline keeps N
    where the sequence has N, so N gets nothing.

    Args:
        seq: one sequence of length L, or a list of them.
        model: a model, a name or path for `load_model`, or None for the bundled one.
        target: name or number of the target; may be left out when there is one.
        baseline: "shuffle" (mean over several dinucleotide shuffles), "zeros" (no base at all), "uniform" (a quarter of
            each base), or an array (L, 4) or (K, L, 4) of ACGT channels. All dinucleotide shuffles have the first and
            the last base of each stretch between Ns, so that these get exactly 0 from them.
        shuffles: number of dinucleotide shuffles.
        seed: of the shuffles. The global random state is neither read nor changed.
        steps: quadrature points at first.
        max_steps: quadrature points at most; as many as `steps` gives fixed quadrature.
        tolerance: relative completeness error that is good enough.
        batch_size: points at once; chosen from the length if not given.
        rc_average: whether to attribute the mean of the predictions for both orientations. The result then carries
            each as its `orientations`, and what is between them as its `orientation_gap`.

    Returns:
        Attribution with `forward` and `reverse` (L, 4) in the units of the target; a list for a list.

    Raises:
        ValueError, TypeError: a bad sequence, target, model, baseline or number.
        MemoryError: a sequence too long for the memory at hand, with the estimate.

    Warns:
        CompletenessWarning: `max_steps` did not reach `tolerance` (the message gives the error that is left), or
            rounding hides the change in prediction, so that nobody can tell.
        ShuffleWarning: the sequence has no other dinucleotide shuffle than itself, so that all is 0.
        OutsideTrainingWarning: the sequence is unlike what the model was trained on.

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
        asked = (evaluated, ReverseComplemented(evaluated)) if rc_average else (evaluated,)
        for sequence in sequences:
            size = resolve_batch_size(resolved, len(sequence), batch_size, gradients=True)
            channels, label = _baselines(sequence, baseline, shuffles, seed)
            at_once = min(size, len(channels) * max(steps, max_steps))
            require_memory(resolved, at_once, len(sequence), gradients=True)
            stable = stability(evaluated, alphabet.encode(sequence), size)
            settings = {"baseline": label, "seed": seed, "tolerance": tolerance, "batch_size": size}
            paths = [_PathIntegral(each, index, sequence, channels, size) for each in asked]
            found = [path.attribution(steps, max(steps, max_steps), tolerance, settings, stable) for path in paths]
            results.append(averaged(*found) if rc_average else found[0])
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
    """Attribute by the gradient at the sequence itself: one pass, and as far as a straight line goes.

    The value of a base is its gradient less the mean over the four bases, since a one-hot input cannot move in the
    direction of all four (Majdandzic et al. 2023, Genome Biology 24:109). Nothing is integrated, so values need not add
    up to a change of the prediction: `baseline_prediction` is where a line of this slope would begin.

    Args:
        seq: one sequence of length L, or a list of them.
        model: a model, a name or path for `load_model`, or None for the bundled one.
        target: name or number of the target; may be left out when there is one.
        rc_average: whether to attribute the mean of the predictions for both orientations; see `integrated_gradients`.

    Returns:
        Attribution with `forward` and `reverse` (L, 4), nonzero at the sequence's own bases; a list for a list.

    Raises:
        ValueError, TypeError: a bad sequence, target or model.
        MemoryError: a sequence too long for the memory at hand, with the estimate.

    Example:
        >>> a = input_gradient("ACGTACGTAC")
        >>> (a.values != 0).sum(axis=1).tolist()
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    """
    resolved = resolve_model(model)
    index = resolve_target(resolved, target)
    sequences = alphabet.normalize_many(seq, name="seq")
    warn_outside_training(resolved, sequences, level_of_caller())
    for sequence in sequences:  # all of them before any work
        require_memory(resolved, 1, len(sequence), gradients=True)
    with evaluation_mode(resolved) as evaluated:
        asked = (evaluated, ReverseComplemented(evaluated)) if rc_average else (evaluated,)
        found = []
        for sequence in sequences:
            stable = stability(evaluated, alphabet.encode(sequence), 1)
            found.append([_slope(each, index, sequence, stable) for each in asked])
    results = [averaged(*both) if rc_average else both[0] for both in found]
    return results[0] if alphabet.is_single(seq) else results


def _slope(model: SequenceModel, target: int, sequence: str, checks: dict[str, float]) -> Attribution:
    own = alphabet.one_hot(alphabet.encode(sequence), np.float64)
    x = torch.from_numpy(own[None]).to(device=model.device, dtype=model.dtype)
    score = float(score_channels(model, x)[0, target])
    strands = []
    for gradient in _gradients(model, target, x):
        bases = gradient[0, :4].double().cpu().numpy()
        strands.append(((bases - bases.mean(axis=0)) * own[:4]).T)
    dtype = np.float64 if model.dtype == torch.float64 else np.float32
    forward, reverse = (values.astype(dtype) for values in strands)
    return Attribution(
        sequence=sequence,
        target=model.targets[target],
        forward=forward,
        reverse=reverse,
        prediction=score,
        baseline_prediction=score - float(forward.sum() + reverse.sum()),
        baseline="gradient",
        certificate=certify(model, "input gradient", settings={}, checks=checks),
        by_strand=hasattr(model, "forward_strands"),
    )


def _baselines(sequence: str, baseline: Baseline, shuffles: int, seed: int) -> tuple[np.ndarray, str]:
    """Channels (K, 5, L) float64 to start from, with N wherever the sequence has N, and a label."""
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


def _gradients(model: SequenceModel, target: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients (n, 5, L) of a target by the forward and the reverse strand's input, both in forward order.

    Raises:
        ValueError: no gradient reaches the input.
    """
    split = getattr(model, "forward_strands", None)
    with torch.inference_mode(False), torch.enable_grad():  # which belong to the thread
        forward = x.clone().requires_grad_()
        if split is None:
            (gradient,) = _differentiated(model, model(forward), target, [forward])
            return gradient, torch.zeros_like(gradient)
        reverse = strand.reverse_complement(x.clone()).requires_grad_()
        by_forward, by_reverse = _differentiated(model, split(forward, reverse), target, [forward, reverse])
    return by_forward, strand.reverse_complement(by_reverse)


def _differentiated(model: SequenceModel, scores: Tensor, target: int, inputs: list[Tensor]) -> list[Tensor]:
    gradients: Sequence[Tensor | None] = [None]
    if scores.requires_grad:
        gradients = torch.autograd.grad(scores[:, target].sum(), inputs, allow_unused=True)
    if all(gradient is None for gradient in gradients):
        raise ValueError(
            f"`model` {model.name} gives no gradient of its input: it turns bases into numbers of a vocabulary, or "
            "computes without gradients. `ism`, `deletion_scan`, `insertion_scan`, `pairwise_ism` and `score_edits` "
            "need none."
        )
    pairs = zip(gradients, inputs, strict=True)
    return [torch.zeros_like(x) if gradient is None else gradient for gradient, x in pairs]


class _PathIntegral:
    """The straight line from K baselines to one sequence, for one target of one model."""

    def __init__(self, model: SequenceModel, target: int, sequence: str, baselines: np.ndarray, batch: int) -> None:
        self.model, self.target, self.sequence, self.batch = model, target, sequence, batch
        own = torch.from_numpy(alphabet.one_hot(alphabet.encode(sequence), np.float64))
        self.start = torch.from_numpy(baselines).to(device=model.device, dtype=model.dtype)
        self.step = own.to(device=model.device, dtype=model.dtype) - self.start  # (K, 5, L)
        ends = torch.cat([self.start, own[None].to(self.start)])
        scores = torch.cat([score_channels(model, part)[:, target] for part in ends.split(batch)]).double().cpu()
        # A baseline that is the sequence has its score, without what rounding makes of it in another batch.
        same = (self.step == 0).flatten(1).all(1).cpu()
        self.baseline_scores, self.score = torch.where(same, scores[-1], scores[:-1]), scores[-1]

    def integrate(self, which: Tensor, steps: int) -> Tensor:
        """Contributions (len(which), 2, 5, L), float64, of the baselines numbered `which`."""
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        alpha = torch.from_numpy((nodes + 1) / 2).to(self.start)
        weight = torch.from_numpy(weights / 2)
        total = torch.zeros(len(which), 2, *self.start.shape[1:], dtype=torch.float64, device="cpu")
        rows, steps_of_rows = np.divmod(np.arange(len(which) * steps), steps)
        waiting: dict[int, Tensor] = {}
        added = 0

        def gradients_of(first: int) -> Tensor:
            row, node = rows[first : first + self.batch], steps_of_rows[first : first + self.batch]
            k = which[row]
            points = self.start[k] + alpha[node, None, None] * self.step[k]
            return torch.stack(_gradients(self.model, self.target, points), dim=1).double().cpu()

        def add(first: int, gradients: Tensor) -> None:
            """In the order of the points, so that a sum does not depend on which thread was faster."""
            nonlocal added
            waiting[first] = gradients
            while added in waiting:
                part = slice(added, added + self.batch)
                scaled = waiting.pop(added) * weight[steps_of_rows[part], None, None, None]
                total.index_add_(0, torch.from_numpy(rows[part]), scaled)
                added += self.batch
            bar.update(len(gradients))

        threads = threads_for(self.model, self.batch, len(self.sequence), gradients=True)
        with progress(len(rows), f"integrated gradients, {steps} steps", "point") as bar:
            for_each(range(0, len(rows), self.batch), gradients_of, add, threads=threads)
        return total * self.step[which].double().cpu().unsqueeze(1)

    def attribution(
        self, steps: int, max_steps: int, tolerance: float, settings: dict[str, Any], checks: dict[str, float]
    ) -> Attribution:
        """Refine each baseline until it is complete, and average."""
        change = self.score - self.baseline_scores  # (K,)
        # A change near zero by cancellation has no relative error of its own: the typical change is the scale then.
        scale = torch.maximum(change.abs(), change.abs().mean())
        # What rounding alone makes of a difference of two scores; relative to them, whatever their size.
        largest = torch.maximum(self.score.abs(), self.baseline_scores.abs())
        rounding = _ROUNDINGS * rounding_unit(self.model.dtype) * largest
        parts = torch.zeros(len(self.start), 2, *self.start.shape[1:], dtype=torch.float64, device="cpu")
        open_rows = torch.arange(len(self.start), device="cpu")
        while True:
            before = parts.clone()
            parts[open_rows] = self.integrate(open_rows, steps)
            error = (parts.sum((1, 2, 3)) - change).abs()
            # Where rounding hides the change, each value must have settled instead.
            moved = (parts - before).abs().amax((1, 2, 3))
            settled = moved <= tolerance * parts.abs().amax((1, 2, 3))
            good = torch.where(rounding < tolerance * scale, error <= tolerance * scale, settled)
            open_rows = torch.nonzero(~good).flatten()
            if len(open_rows) == 0 or steps >= max_steps:
                break
            steps = min(2 * steps, max_steps)
        self._warn(steps, tolerance, error, scale, rounding, parts.abs().sum((1, 2, 3)))
        forward, reverse = parts.mean(0)[:, :4].transpose(1, 2).numpy()
        dtype = np.float64 if self.model.dtype == torch.float64 else np.float32
        attributed = parts.abs().sum((1, 2, 3))
        relative = _relative(error, torch.where(scale > 0, scale, attributed))
        checks = {**checks, "worst_relative_completeness_error": float(relative.max())}
        return Attribution(
            sequence=self.sequence,
            target=self.model.targets[self.target],
            forward=forward.astype(dtype),
            reverse=reverse.astype(dtype),
            prediction=float(self.score),
            baseline_prediction=float(self.baseline_scores.mean()),
            baseline=settings["baseline"],
            certificate=certify(
                self.model, "integrated gradients", settings=settings | {"steps": steps}, checks=checks
            ),
            by_strand=hasattr(self.model, "forward_strands"),
        )

    def _warn(
        self, steps: int, tolerance: float, error: Tensor, scale: Tensor, rounding: Tensor, attributed: Tensor
    ) -> None:
        """Of baselines whose values do not add up, and of those where that cannot be judged; all arguments (K,)."""
        relative = _relative(error, scale)
        # Where all cancels, the values themselves are what an error is compared with.
        hidden = (rounding > tolerance * torch.maximum(scale, attributed)) & (attributed > rounding)
        incomplete = torch.where(rounding >= tolerance * scale, error > tolerance * attributed, relative > tolerance)
        incomplete &= ~hidden & (error > rounding)
        count = len(error)
        message = None
        if incomplete.any():
            message = (
                f"Integrated gradients with {steps} steps: the worst of {count} baselines is off by "
                f"{float(_relative(error, torch.where(scale > 0, scale, attributed))[incomplete].max()):.2%} of its "
                f"{'change in prediction' if bool((scale > 0).all()) else 'attributions'}, more than "
                f"`tolerance`={tolerance:.2%}. Raise `max_steps`."
            )
        elif hidden.any():
            at = int((rounding / scale).nan_to_num(posinf=0).argmax())
            message = (
                f"Integrated gradients: for {int(hidden.sum())} of {count} baselines it cannot be judged whether the "
                f"attributions add up to the change in prediction of {float(scale[at]):.3g}, which is lost in the "
                f"rounding of scores of {float(self.score):.3g} in {str(self.model.dtype).removeprefix('torch.')}. "
                "A model in float64 would tell."
            )
        if message is not None:
            warnings.warn(message, CompletenessWarning, stacklevel=level_of_caller())


def _relative(error: Tensor, scale: Tensor) -> Tensor:
    """Errors as shares of a scale; 0 where there is none to compare with."""
    return torch.where(scale > 0, error / scale, 0.0)
