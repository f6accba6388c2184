"""Cache keys of scores, and when scores cannot be cached."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence

import torch
from torch import nn

from crossdna_interpret._validation import level_of_caller
from crossdna_interpret.dna.edits import Edit, Editor
from crossdna_interpret.models.fingerprint import fingerprint
from crossdna_interpret.models.hooks import hooked
from crossdna_interpret.models.protocols import SequenceModel
from crossdna_interpret.scoring.batches import runs_in_threads
from crossdna_interpret.scoring.provenance import VERSION

__all__ = ["CacheWarning", "cache_key", "cache_problem", "key_of_rows"]


class CacheWarning(UserWarning):
    """No scores were saved, because the model cannot be identified reliably in a later run.

    Example:
        >>> import warnings, crossdna_interpret as cdi
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", cdi.CacheWarning)  # stop instead of computing without a cache
        ...     r = cdi.ism("ACGTACGTACGT", end=2)
    """


def cache_problem(model: SequenceModel) -> str | None:
    """Reason why scores of a model cannot be cached, as text, or None if they can.

    Warns:
        CacheWarning: a part of the model cannot be hashed.
    """
    assert isinstance(model, nn.Module)
    if hooked(model):
        return "hooks are active, and what they do is not part of what is kept"
    opaque = fingerprint(model).opaque
    if not opaque:
        return None
    problem = f"{', '.join(opaque[:3])} of {model.name} may change its scores and cannot be hashed"
    warnings.warn(f"`cache` keeps nothing: {problem}.", CacheWarning, stacklevel=level_of_caller())
    return problem


def cache_key(
    model: SequenceModel, editor: Editor, edits: list[Edit], path: str, *, kernels: bool, batch_size: int | None
) -> tuple[object, ...]:
    """Cache key: everything that the scores of a job depend on.

    Args:
        model: a model in evaluation mode.
        editor: holds the sequence and its flanks.
        edits: edits of the sequence, in order.
        path: "reuse", "plain" or "trusted".
        kernels: whether compiled kernels are active.
        batch_size: the caller's value. Scores of some models depend on the other sequences in a batch.
    """
    of_model = _of_model(model, path, kernels, batch_size)
    return *of_model, editor.sequence, editor.flanks, [(edit.start, edit.end, edit.string) for edit in edits]


def key_of_rows(
    model: SequenceModel,
    editors: Sequence[Editor],
    edits: Sequence[list[Edit]],
    *,
    kernels: bool,
    batch_size: int | None,
) -> tuple[object, ...]:
    """Cache key for edits of several sequences, each scored by a full forward pass."""
    content = hashlib.sha256()
    for editor, own in zip(editors, edits, strict=True):
        each = editor.sequence, editor.flanks, [(edit.start, edit.end, edit.string) for edit in own]
        content.update(repr(each).encode())
    return *_of_model(model, "many", kernels, batch_size), content.hexdigest()


def _of_model(model: SequenceModel, path: str, kernels: bool, batch_size: int | None) -> tuple[object, ...]:
    assert isinstance(model, nn.Module)
    own = fingerprint(model)
    size = None if runs_in_threads(model) else batch_size
    versions = VERSION, torch.__version__, torch.get_float32_matmul_precision()
    how = path, kernels, size, model.device.type, versions
    return own.digest, own.libraries, tuple(model.targets), str(model.dtype), how
