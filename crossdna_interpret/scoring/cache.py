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
    """No scores were saved in the folder, because a later run could mistake them for those of another model.

    Example:
        >>> import warnings, crossdna_interpret as cdi
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", cdi.CacheWarning)  # stop, rather than compute everything again next time
        ...     r = cdi.ism("ACGTACGTACGT", end=2)
    """


def cache_problem(model: SequenceModel) -> str | None:
    """Why scores of a model cannot be kept, in words, or None.

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
    """Everything that the scores of a job depend on.

    Args:
        model: in evaluation mode.
        editor: with the sequence and its flanks.
        edits: of the sequence, in order.
        path: "reuse", "plain" or "trusted".
        kernels: whether compiled kernels are active.
        batch_size: as the caller gave it. Scores of some models depend on what else is in a batch.
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
    """The same for edits of several sequences, each by a whole pass."""
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
