"""The base of models that wrap another model."""

from __future__ import annotations

import torch
from torch import nn

from crossdna_interpret.models.protocols import SequenceModel

__all__ = ["Delegate"]


class Delegate(nn.Module):
    """A model that wraps another model and has its name, device and dtype.

    Args:
        model: the wrapped model. It is not changed.
    """

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        assert isinstance(model, nn.Module)
        self.model = model
        self.training = model.training

    @property
    def name(self) -> str:
        """Name of the wrapped model."""
        return str(self.model.name)

    @property
    def device(self) -> torch.device:
        """Device of the wrapped model."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the wrapped model."""
        return self.model.dtype
