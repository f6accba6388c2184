"""A model asked about the other orientation, and the mean of what both orientations answer.

The duplex has no preferred orientation, but a model may: f(x) and f(reverse complement of x) can differ. Their mean is
a function that cannot. Its mutagenesis and its attributions are the means of those of both, mapped onto the sequence
as it was given, and how far the two are apart is an error bar that needs no assumption.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch import Tensor, nn

from crossdna_interpret import strand

if TYPE_CHECKING:
    from crossdna_interpret.scoring import SequenceModel

__all__ = ["ReverseComplemented", "averaged"]

Result = TypeVar("Result")

# What a model has, or may have, and its reverse complement has alike.
_PASSED_ON = frozenset(
    ["targets", "name", "device", "dtype", "config", "memory_estimate", "operations", "accelerated", "reuse_problem",
     "runs_in_threads"]
)  # fmt: skip


class ReverseComplemented(nn.Module):
    """The model that scores the reverse complement of what it is given, with all that the model itself offers.

    Args:
        model: any `SequenceModel`; it is not changed.
    """

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        assert isinstance(model, nn.Module)
        self.model = model
        self.training = model.training

    def __getattr__(self, name: str) -> Any:
        if name in _PASSED_ON:
            return getattr(self.model, name)
        if name in ("forward_strands", "reuse") and hasattr(self.model, name):
            return self._turned_strands if name == "forward_strands" else self._reuse
        return super().__getattr__(name)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.model(strand.reverse_complement(x))
        return scores

    def _turned_strands(self, x_forward: Tensor, x_reverse: Tensor) -> Tensor:
        offered: Any = self.model.forward_strands
        scores: Tensor = offered(x_reverse, x_forward)
        return scores

    def _reuse(self, reference: np.ndarray) -> _Turned:
        offered: Any = self.model.reuse
        return _Turned(offered(strand.reverse_complement_ids(reference)))


@dataclasses.dataclass(frozen=True)
class _Turned:
    scorer: Any

    def score(self, ids: np.ndarray) -> Tensor:
        scores: Tensor = self.scorer.score(strand.reverse_complement_ids(ids))
        return scores


def averaged(as_given: Result, turned: Result) -> Result:
    """The mean of a result and of that of the `ReverseComplemented` model, which carries both as its `orientations`."""
    assert dataclasses.is_dataclass(as_given)
    assert not isinstance(as_given, type)
    both = as_given, turned
    names: tuple[str, ...] = as_given.AVERAGED  # type: ignore[attr-defined]
    means = {name: (getattr(as_given, name) + getattr(turned, name)) / 2 for name in names}
    certificates = [each.certificate for each in both]  # type: ignore[attr-defined]
    method = ", and ".join(dict.fromkeys(certificate.method for certificate in certificates))
    certificate = certificates[0].merge(certificates, method=method, settings={"rc_average": True})
    return dataclasses.replace(as_given, **means, orientations=both, certificate=certificate)
