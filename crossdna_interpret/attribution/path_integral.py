"""Integrals of a gradient along straight lines, by adaptive quadrature: sections with a large error are halved."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossdna_interpret._validation import level_of_caller
from crossdna_interpret.dna import alphabet
from crossdna_interpret.models.leaves import Leaf, leaf_of
from crossdna_interpret.models.protocols import SequenceModel
from crossdna_interpret.parallel import for_each
from crossdna_interpret.progress import progress
from crossdna_interpret.results import Attribution, CompletenessWarning
from crossdna_interpret.scoring.batches import threads_for
from crossdna_interpret.scoring.forward import rounding_unit, score_points
from crossdna_interpret.scoring.provenance import certify

__all__ = ["PathIntegral", "path_values"]

_POINTS = 4  # in a section. Gauss-Legendre quadrature is then exact for polynomials of up to degree 7
_WORTH_SHARING = 16  # points from which two batches in two threads are faster than one batch
_ROUNDINGS = 8  # assumed rounding error of a score, in units in the last place


@dataclass(eq=False)
class _Section:
    """A section of a line, from `start` to `end` as fractions of its length, with the contributions of the bases."""

    start: float
    end: float
    points: int
    start_score: float
    end_score: float
    values: Tensor | None = None  # (P, ...) by path, or None before they are computed
    excess: float = math.inf  # sum of the values minus the change of the score

    def set_values(self, values: Tensor) -> None:
        """Set the contributions and the excess."""
        self.values = values
        self.excess = float(values.sum(dtype=torch.float64)) - (self.end_score - self.start_score)

    def halves(self, middle_score: float) -> list[_Section]:
        """Split into two sections, without contributions yet."""
        middle = (self.start + self.end) / 2
        return [
            _Section(self.start, middle, self.points, self.start_score, middle_score),
            _Section(middle, self.end, self.points, middle_score, self.end_score),
        ]


class _Line:
    """The straight line from one baseline to the sequence.

    Args:
        baseline_score, score: scores at the start and the end.
        scale: reference value for relative errors.
        relative_rounding: rounding error of a difference of two scores, as a fraction of the larger score.
    """

    def __init__(self, baseline_score: float, score: float, scale: float, relative_rounding: float) -> None:
        self.baseline_score, self.score, self.scale = baseline_score, score, scale
        self.relative_rounding = relative_rounding
        self.rounding = relative_rounding * max(abs(score), abs(baseline_score))
        self.sections: list[_Section] = []
        self.total: Tensor | None = None  # (P, ...) float64, sum over sections
        self.largest_change = math.inf  # the largest change of a value in the last round

    @property
    def points(self) -> int:
        return sum(section.points for section in self.sections)

    @property
    def incompleteness(self) -> float:
        """Absolute difference between the sum of the contributions and the change of the score."""
        return abs(float(self.values.sum()) - (self.score - self.baseline_score))

    @property
    def error(self) -> float:
        """The larger of `incompleteness` and the root sum of squares of the section errors.

        The second term is needed because section errors can cancel by chance in the sum.
        """
        beyond_rounding = [max(0.0, abs(section.excess) - self.rounding) for section in self.sections]
        return max(self.incompleteness, math.hypot(*beyond_rounding))

    @property
    def values(self) -> Tensor:
        """Contributions (P, ...), float64."""
        assert self.total is not None
        return self.total

    @property
    def attributed(self) -> float:
        """Sum of the absolute values."""
        return float(self.values.abs().sum())

    def relative(self, error: float) -> float:
        """Error relative to the scale, or to the values if the scale is 0. It is 0 if both are 0."""
        scale = self.scale or self.attributed
        return error / scale if scale else 0.0

    def add_up(self) -> None:
        """Sum up the sections."""
        self.sections.sort(key=lambda section: section.start)
        largest = max(max(abs(each.start_score), abs(each.end_score)) for each in self.sections)
        self.rounding = max(self.rounding, self.relative_rounding * largest)  # scores inside the line may be larger
        total = torch.stack([each.values for each in self.sections if each.values is not None])
        before, self.total = self.total, total.sum(0, dtype=torch.float64)
        self.largest_change = math.inf if before is None else float((self.total - before).abs().max())

    def is_hidden(self, tolerance: float) -> bool:
        """Whether the change is smaller than rounding errors, so that completeness cannot be checked."""
        return self.attributed > 0 and self.rounding > tolerance * max(self.scale, self.attributed)

    def is_incomplete(self, tolerance: float) -> bool:
        """Whether the sum of the values clearly differs from the change of the score."""
        # If the values cancel to almost zero, compare the error with their absolute sum.
        scale = self.attributed if self.rounding >= tolerance * self.scale else self.scale
        return not self.is_hidden(tolerance) and self.error > max(tolerance * scale, self.rounding)

    def sections_to_halve(self, tolerance: float, max_steps: int) -> list[_Section]:
        """Sections with the largest errors. Empty if the error is small enough or no more points are allowed."""
        allowed = tolerance * self.scale
        if self.rounding < allowed:
            if self.error <= allowed:
                return []
        elif not self.attributed or self.largest_change <= tolerance * float(self.values.abs().max()):
            return []  # rounding hides the change, and all values have converged
        chosen: list[_Section] = []
        points = self.points
        rest = sorted(self.sections, key=lambda section: -abs(section.excess))
        while rest and points + rest[0].points <= max_steps:
            left = [section.excess for section in rest]
            if self.rounding < allowed and max(abs(math.fsum(left)), math.hypot(*left)) <= allowed / 2:
                break
            chosen.append(rest.pop(0))
            points += chosen[-1].points
        return chosen


def path_values(leaf: Leaf, values: np.ndarray, dtype: type[np.floating]) -> tuple[np.ndarray, np.ndarray]:
    """Values (L, 4) of the forward and the reverse strand, from values (P, ...). A single path counts as forward."""
    by_path = leaf.by_base(values).astype(dtype)
    return by_path[0], by_path[1] if len(by_path) == 2 else np.zeros_like(by_path[0])


class PathIntegral:
    """Integrals along the straight lines from K baselines to one sequence, for one target of one model.

    Lines are divided into sections. The contributions of the bases in a section must sum to the change of the score
    from its start to its end, which needs two forward passes. Sections that fail this check are halved. So there are
    more points where the gradient changes quickly.

    Args:
        model: a model in evaluation mode.
        target: index of the target.
        sequence: a sequence of length L.
        baselines: (K, 5, L) float64.
        batch: largest number of points in a batch.
    """

    def __init__(self, model: SequenceModel, target: int, sequence: str, baselines: np.ndarray, batch: int) -> None:
        self.model, self.target, self.sequence, self.batch = model, target, sequence, batch
        self.leaf = leaf_of(model, sequence)
        own = alphabet.one_hot(alphabet.encode(sequence), np.float64)
        self.end = self.leaf.points(own[None])[0]  # (...)
        self.start = self.leaf.points(baselines)  # (K, ...)
        self.step = self.end - self.start
        count = len(self.start)
        scores = self._scores([*((number, 0.0) for number in range(count)), (0, 1.0)])
        # A baseline equal to the sequence must have exactly the same score. Batches can differ by rounding.
        same = (self.step == 0).flatten(1).all(1).cpu().numpy()
        self.score = float(scores[-1])
        self.baseline_scores = np.where(same, self.score, scores[:-1])
        change = np.abs(self.score - self.baseline_scores)
        # If a change is almost zero by cancellation, its own relative error means nothing. Use the mean change.
        scale = np.maximum(change, change.mean())
        rounding = _ROUNDINGS * rounding_unit(model.dtype)
        self.lines = [
            _Line(float(self.baseline_scores[number]), self.score, float(scale[number]), rounding)
            for number in range(count)
        ]

    def attribution(
        self, steps: int, max_steps: int, tolerance: float, settings: dict[str, Any], checks: dict[str, float]
    ) -> Attribution:
        """Refine each baseline until it is complete, then average.

        Args:
            steps: initial points of each baseline.
            max_steps: largest number of points of a baseline.
            tolerance: largest accepted relative error.
            settings: settings for the certificate, with the label of the baselines.
            checks: checks for the certificate.

        Warns:
            CompletenessWarning: `tolerance` was not reached, or rounding hides the change.
        """
        self._cut(steps)
        while halved := {
            line: chosen for line in self.lines if (chosen := line.sections_to_halve(tolerance, max_steps))
        }:
            self._halve(halved)
        used = max(line.points for line in self.lines)
        self._warn(used, tolerance)
        settings = settings | {"steps": used} | ({} if self.leaf.note is None else {"values": self.leaf.note})
        total = torch.stack([line.values for line in self.lines]).mean(0)
        dtype = np.float64 if self.model.dtype == torch.float64 else np.float32
        forward, reverse = path_values(self.leaf, total.numpy(), dtype)
        checks = checks | {
            "worst_relative_completeness_error": max(line.relative(line.incompleteness) for line in self.lines),
            "worst_relative_error_over_sections": max(line.relative(line.error) for line in self.lines),
        }
        return Attribution(
            sequence=self.sequence,
            target=self.model.targets[self.target],
            forward=forward,
            reverse=reverse,
            prediction=self.score,
            baseline_prediction=float(self.baseline_scores.mean()),
            baseline=settings["baseline"],
            certificate=certify(self.model, "integrated gradients", settings=settings, checks=checks),
            by_strand=len(self.leaf.paths) == 2,
        )

    def _cut(self, steps: int) -> None:
        """Divide each line into sections of equal length, with `steps` points in total, and integrate."""
        count = math.ceil(steps / _POINTS)
        points = [steps // count + (number < steps % count) for number in range(count)]
        shares = [number / count for number in range(count + 1)]
        inner = self._scores([(number, share) for number in range(len(self.lines)) for share in shares[1:-1]])
        for line, middle in zip(self.lines, inner.reshape(len(self.lines), -1), strict=True):
            scores = [line.baseline_score, *middle.tolist(), line.score]
            line.sections = [
                _Section(shares[i], shares[i + 1], points[i], scores[i], scores[i + 1]) for i in range(count)
            ]
        self._integrate([(number, section) for number, line in enumerate(self.lines) for section in line.sections])
        for line in self.lines:
            line.add_up()

    def _halve(self, chosen: dict[_Line, list[_Section]]) -> None:
        """Halve the chosen sections, and integrate their halves."""
        numbered = [(number, section) for number, line in enumerate(self.lines) for section in chosen.get(line, [])]
        scores = self._scores([(number, (section.start + section.end) / 2) for number, section in numbered])
        new: list[tuple[int, _Section]] = []
        for (number, section), score in zip(numbered, scores.tolist(), strict=True):
            halves = section.halves(score)
            self.lines[number].sections.remove(section)
            self.lines[number].sections += halves
            new += [(number, half) for half in halves]
        self._integrate(new)
        for line in chosen:
            line.add_up()

    def _scores(self, at: list[tuple[int, float]]) -> np.ndarray:
        """Scores (n,), float64, at n points: (index of a line, fraction of its length)."""
        scores = np.zeros(len(at))

        def scores_of(first: int) -> Tensor:
            points = self._points(at[first : first + self.batch])
            return score_points(self.model, self.leaf, points, len(self.sequence))[:, self.target].double().cpu()

        def keep(first: int, result: Tensor) -> None:
            scores[first : first + len(result)] = result.numpy()

        threads = threads_for(self.model, self.batch, len(self.sequence))
        for_each(range(0, len(at), self.batch), scores_of, keep, threads=threads)
        return scores

    def _points(self, at: Sequence[tuple[int, float]]) -> Tensor:
        """Points (n, ...) at n places of the lines. At fraction 1 the point is exactly the sequence."""
        numbers = torch.tensor([number for number, _ in at], device="cpu")
        shares = torch.tensor([share for _, share in at], dtype=torch.float64, device="cpu")
        shares = shares.to(self.start).reshape(-1, *[1] * self.end.ndim)
        between = self.start[numbers] + shares * self.step[numbers]
        return torch.where(shares == 1, self.end, between)

    def _integrate(self, sections: list[tuple[int, _Section]]) -> None:
        """Compute the contributions in sections, each with the index of its line."""
        at: list[tuple[int, float]] = []
        weights: list[float] = []
        rows: list[int] = []
        for row, (number, section) in enumerate(sections):
            nodes, weight = np.polynomial.legendre.leggauss(section.points)
            length = section.end - section.start
            at += [(number, share) for share in (section.start + length * (nodes + 1) / 2).tolist()]
            weights += (length * weight / 2).tolist()
            rows += [row] * section.points
        row_of, weight_of = np.array(rows), np.array(weights)
        shape = len(self.leaf.paths), *self.end.shape
        totals = torch.zeros(len(sections), *shape, dtype=torch.float64, device="cpu")
        batches = math.ceil(len(at) / self.batch)
        if batches % 2 and len(at) >= _WORTH_SHARING:
            batches += 1
        size = math.ceil(len(at) / batches)
        waiting: dict[int, Tensor] = {}
        added = 0

        def gradients_of(first: int) -> Tensor:
            return self.leaf.gradients(self._points(at[first : first + size]), self.target).double().cpu()

        def add(first: int, gradients: Tensor) -> None:
            """Add in the order of the points, so that the sum does not depend on thread timing."""
            nonlocal added
            waiting[first] = gradients
            while added in waiting:
                part = slice(added, added + size)
                weights = torch.from_numpy(weight_of[part]).reshape(-1, *[1] * len(shape))
                scaled = waiting.pop(added) * weights
                totals.index_add_(0, torch.from_numpy(row_of[part]), scaled)
                added += size
            bar.update(len(gradients))

        threads = threads_for(self.model, size, len(self.sequence), gradients=True)
        with progress(len(at), "integrated gradients", "point") as bar:
            for_each(range(0, len(at), size), gradients_of, add, threads=threads)
        for (number, section), total in zip(sections, totals, strict=True):
            section.set_values((total * self.step[number].double().cpu()).to(self.model.dtype))

    def _warn(self, steps: int, tolerance: float) -> None:
        """Warn of incomplete baselines, or of baselines whose completeness cannot be checked."""
        incomplete = [line for line in self.lines if line.is_incomplete(tolerance)]
        hidden = [line for line in self.lines if line.is_hidden(tolerance)]
        if incomplete:
            compared = "change in prediction" if all(line.scale > 0 for line in self.lines) else "attributions"
            message = (
                f"Integrated gradients with {steps} steps: the worst of {len(self.lines)} baselines is off by "
                f"{max(line.relative(line.error) for line in incomplete):.2%} of its {compared}, more than "
                f"`tolerance`={tolerance:.2%}. Raise `max_steps`."
            )
        elif hidden:
            worst = max(hidden, key=lambda line: line.rounding / line.scale if line.scale else 0.0)
            message = (
                f"Integrated gradients: for {len(hidden)} of {len(self.lines)} baselines it cannot be judged whether "
                f"the attributions add up to the change in prediction of {worst.scale:.3g}, which is lost in the "
                f"rounding of scores of {self.score:.3g} in {str(self.model.dtype).removeprefix('torch.')}. "
                "Use a model in float64 to check it."
            )
        else:
            return
        warnings.warn(message, CompletenessWarning, stacklevel=level_of_caller())
