"""Adapter that turns a PyTorch module into a sequence model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from crossdna_interpret.models.evaluation import is_exported
from crossdna_interpret.models.inputs import Inputs
from crossdna_interpret.models.protocols import declare
from crossdna_interpret.models.training_range import TrainingRange

__all__ = ["Output", "Wrapped"]

Output = int | str | Callable[[Any], Tensor] | None


class Wrapped(nn.Module):
    """A PyTorch module as a `SequenceModel`. Use `wrap` to create one."""

    def __init__(
        self,
        module: nn.Module,
        inputs: Inputs,
        targets: Sequence[str],
        *,
        output: Output,
        name: str,
        training_range: TrainingRange | None = None,
    ) -> None:
        super().__init__()
        self.module, self.targets, self.name, self.output = module, tuple(targets), name, output
        self.inputs = inputs
        self.training_range = training_range
        # A frozen TorchScript module has no `training`, and an exported program keeps the mode of its export.
        self.training = bool(getattr(module, "training", False)) and not is_exported(module)

    @property
    def device(self) -> torch.device:
        """Device of the module."""
        return next((tensor.device for tensor in self._tensors()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the module's weights, or of its buffers if it has no weights."""
        return next((tensor.dtype for tensor in self._tensors() if tensor.is_floating_point()), torch.float32)

    def _tensors(self) -> Iterator[Tensor]:
        return itertools.chain(self.module.parameters(), self.module.buffers())

    def forward(self, *batch: Tensor) -> Tensor:
        """Scores (N, T) of a batch of N sequences from `inputs`."""
        try:
            result = self.module(*batch)
        except (RuntimeError, IndexError) as error:
            if type(error) in (RuntimeError, IndexError):  # and not a subclass, such as running out of memory
                shapes = ", ".join(f"{str(each.dtype).removeprefix('torch.')} {tuple(each.shape)}" for each in batch)
                error.add_note(f"{self.name} failed on an input of {shapes}, from `inputs` {self.inputs!r}.")
            raise
        return self._scores(result, len(batch[0]))

    def _scores(self, result: Any, count: int) -> Tensor:
        if callable(self.output):
            result = self.output(result)
        elif self.output is not None:
            try:
                result = result[self.output]
            except (KeyError, IndexError, TypeError) as error:
                what = list(result) if isinstance(result, Mapping) else f"{type(result).__name__}"
                raise ValueError(f"`output` {self.output!r} is not in what the module returns: {what}.") from error
        if not isinstance(result, Tensor):
            what = list(result) if isinstance(result, Mapping) else type(result).__name__
            raise TypeError(
                f"The module returns {what}, not a tensor. Say which part to explain: `output` may be a key, a number "
                "or a function that makes a tensor of it."
            )
        scores = result.unsqueeze(1) if result.shape == (count,) else result
        if scores.shape != (count, len(self.targets)):
            raise ValueError(
                f"`targets` names {len(self.targets)}, so the module must return ({count}, {len(self.targets)}), "
                f"but it returns {tuple(result.shape)}. `output` may be a function that makes it so."
            )
        return scores


declare(Wrapped, {Inputs: lambda model: model.inputs})
