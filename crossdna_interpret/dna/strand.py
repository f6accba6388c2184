"""The reverse complement of strings, ids and channels."""

from __future__ import annotations

import math
from typing import TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from crossdna_interpret.dna import alphabet

__all__ = ["reverse_complement", "reverse_complement_ids"]

Array = TypeVar("Array", np.ndarray, Tensor)


def _check_channels(shape: tuple[int, ...], channel_axis: int) -> None:
    if len(shape) < 2 or shape[channel_axis] not in (4, 5):
        raise ValueError(
            "`x` must be a string, integer ids (..., L), or one-hot channels (..., 4 or 5, L) or (..., L, 4 or 5) as "
            f"told by `channel_axis`={channel_axis}; got shape {tuple(shape)}."
        )


@overload
def reverse_complement(x: str, *, channel_axis: int = -2) -> str: ...
@overload
def reverse_complement(x: np.ndarray, *, channel_axis: int = -2) -> np.ndarray: ...
@overload
def reverse_complement(x: Tensor, *, channel_axis: int = -2) -> Tensor: ...
def reverse_complement(x: str | np.ndarray | Tensor, *, channel_axis: int = -2) -> str | np.ndarray | Tensor:
    """Reverse complement of a sequence, ids or channels. The complement of N is N.

    Args:
        x: one of: a string or another sequence (see `alphabet.normalize`); channels in the order ACGT or ACGTN, such as
            one-hot encodings of any dtype, gradients or attributions; integer ids (..., L) with A=0 C=1 G=2 T=3 N=4.
            Integers count as channels if they are all 0 or 1, `channel_axis` has size 4 or 5, and each position has at
            most one 1. numpy arrays and tensors both work. Tensors stay differentiable.
        channel_axis: -2 for channels first (..., C, L), -1 for channels last (..., L, C). Ignored for strings and ids.

    Returns:
        The same type and shape as `x`. A string for a sequence.

    Raises:
        TypeError: `x` is none of these.
        ValueError: floating-point or bool `x` without 4 or 5 channels on `channel_axis`, integers that are not ids, or
            integers that may be ids or channels.

    Example:
        >>> reverse_complement("AACGN")
        'NCGTT'
    """
    if alphabet.is_single(x):
        return alphabet.decode(alphabet.complement_ids(alphabet.encode(alphabet.normalize(x, name="x")))[::-1])
    if not isinstance(x, (np.ndarray, Tensor)):
        raise TypeError(f"`x` must be a sequence, a numpy array or a tensor, but got {type(x).__name__}.")
    if channel_axis not in (-1, -2):
        raise ValueError(f"`channel_axis` must be -2 (channels first) or -1 (channels last), but got {channel_axis}.")
    kind = str(x.dtype).removeprefix("torch.")
    if "complex" in kind or kind == "object" or kind.startswith(("<U", "|S")):
        raise TypeError(f"`x` must hold numbers, but holds {kind}.")
    if "int" in kind and not _looks_one_hot(x, channel_axis):
        return reverse_complement_ids(x)  # type: ignore[type-var]  # one of the two types
    _check_channels(tuple(x.shape), channel_axis)
    # The reversed order of ACGT is the order of the complements. N, if present, stays last.
    order = [3, 2, 1, 0, 4][: x.shape[channel_axis]]
    length_axis = -1 if channel_axis == -2 else -2
    if isinstance(x, Tensor):
        return x.index_select(channel_axis, torch.tensor(order, device=x.device)).flip(length_axis)
    return np.flip(np.take(x, order, axis=channel_axis), length_axis).copy()


def reverse_complement_ids(x: Array) -> Array:
    """Reverse complement of integer ids (..., L), A=0 C=1 G=2 T=3 N=4. The input never counts as channels.

    Raises:
        ValueError: other numbers than 0 to 4.
    """
    if bool(((x < 0) | (x > alphabet.N_ID)).any()):
        raise ValueError("`x` must hold ids from 0 to 4, or one-hot channels, but holds other numbers.")
    if isinstance(x, Tensor):
        return torch.where(x < 4, 3 - x, x).flip(-1)
    return alphabet.complement_ids(x)[..., ::-1].copy()


def _looks_one_hot(x: np.ndarray | Tensor, channel_axis: int) -> bool:
    if x.ndim < 2 or x.shape[channel_axis] not in (4, 5) or bool(((x != 0) & (x != 1)).any()):
        return False
    ones = x.sum(channel_axis)
    if bool((ones > 1).any()):
        return False
    if 2 * int((ones == 1).sum()) <= math.prod(ones.shape):
        raise ValueError(
            f"`x` of shape {tuple(x.shape)} may be ids of A and C, or one-hot channels that are mostly N. Give "
            "channels as bool or floating-point numbers, or ids one sequence at a time."
        )
    return True
