"""Hashes of tensors, remembered until a tensor changes."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ["hash_of"]

_COLUMNS = 4093  # of the checksum. A prime, so that two swapped rows of a weight do not fall in the same columns
_ROWS = 64  # rows that are summed at once
_FACTOR = 0x5851F42D4C957F2D  # must be odd

_hashed = WeakTensorKeyDictionary()  # tensor -> (memory address and checksum, hash)


def hash_of(tensor: Tensor) -> bytes:
    """SHA-256 of a tensor's values. It is computed again only if the tensor has changed."""
    with torch.no_grad():
        plain = tensor.detach()
        if plain.device.type == "meta":
            return b"meta"
        if plain.layout != torch.strided or plain.is_quantized:
            plain = plain.to_dense() if not plain.is_quantized else plain.dequantize()
        plain = plain.resolve_conj().resolve_neg().contiguous()
        version = None if tensor.is_inference() else tensor._version
        state = plain.data_ptr(), version, _checksum(plain)
        known = _hashed.get(tensor)
        if known is not None and known[0] == state:
            return known[1]
        digest: bytes = hashlib.sha256(plain.cpu().reshape(-1).view(torch.uint8).numpy().data).digest()
        _hashed[tensor] = state, digest
        return digest


def _checksum(x: Tensor) -> bytes:
    """Checksum of a tensor. It detects nearly every change and is much faster than a hash."""
    flat = x.reshape(-1).view(torch.uint8)
    whole = len(flat) // 8
    words = flat[: 8 * whole].clone().view(torch.int64) if flat.data_ptr() % 8 else flat[: 8 * whole].view(torch.int64)
    rows = whole // _COLUMNS
    if not rows:
        return flat.cpu().numpy().tobytes()
    sums = torch.zeros(_COLUMNS, dtype=torch.int64, device=x.device)
    # Each row has a different factor, so that swapped rows change the sum.
    factors = 2 * torch.arange(1, _ROWS + 1, device=x.device)[:, None] + 1
    for part in words[: rows * _COLUMNS].view(rows, _COLUMNS).split(_ROWS):
        # In a plain sum, bits that flip in pairs, such as signs, would cancel.
        sums = (sums ^ (sums >> 23)) * _FACTOR + ((part ^ (part >> 29)) * factors[: len(part)]).sum(0)
    rest = flat[8 * rows * _COLUMNS :]
    return sums.cpu().numpy().tobytes() + rest.cpu().numpy().tobytes()
