"""The base of models that wrap another model."""

from __future__ import annotations

import torch
from torch import nn

from crossdna_interpret.models.protocols import SequenceModel

__all__ = ["Delegate"]


class Delegate(nn.Module):
    """A model that computes with another one, and has its name, device and dtype.

    Args:
        model: it is not changed.
    """

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        assert isinstance(model, nn.Module)
        self.model = model
        self.training = model.training

    @property
    def name(self) -> str:
        """The model's."""
        return str(self.model.name)

    @property
    def device(self) -> torch.device:
        """The model's."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """The model's."""
        return self.model.dtype
