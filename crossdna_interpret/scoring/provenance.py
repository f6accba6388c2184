"""Certificates: model hash, versions, settings and checks."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import nn

from crossdna_interpret.models.evaluation import in_evaluation_mode
from crossdna_interpret.models.fingerprint import fingerprint
from crossdna_interpret.models.orientation import ReverseComplemented
from crossdna_interpret.models.protocols import SequenceModel
from crossdna_interpret.models.selected import Selected
from crossdna_interpret.results import Certificate

__all__ = ["VERSION", "certify", "model_hash"]

VERSION = metadata.version("crossdna_interpret")


def model_hash(model: SequenceModel) -> str:
    """SHA-256 of a model's weights and of everything else that changes its scores. See `fingerprint`."""
    if isinstance(model, (ReverseComplemented, Selected)):
        return model_hash(model.model)
    assert isinstance(model, nn.Module)
    return fingerprint(in_evaluation_mode(model)).digest


def _precision(model: SequenceModel) -> dict[str, str]:
    """PyTorch's precision setting for float32 matrix products, unless it is the exact one."""
    precision = torch.get_float32_matmul_precision()
    return {} if precision == "highest" or model.dtype != torch.float32 else {"float32_matmul_precision": precision}


def certify(
    model: SequenceModel, method: str, *, settings: Mapping[str, Any], checks: Mapping[str, float]
) -> Certificate:
    """Make the certificate of a result that was just computed with `model`."""
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
