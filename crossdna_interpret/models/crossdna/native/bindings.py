"""Compiled CPU kernels and the context that activates them. `compiling.py` builds them from the C files in this folder.

Importing this module compiles and loads nothing. Kernels are active in a context and are not part of a model, so other
threads may use the model at the same time. They use one thread: `crossdna_interpret.parallel` runs several batches.
"""

from __future__ import annotations

import ctypes
import functools
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.native import compiling
from crossdna_interpret.models.crossdna.native.compiling import CompileError, Sizes
from crossdna_interpret.models.crossdna.recurrence import CHUNK, RecurrenceTrace
from crossdna_interpret.models.crossdna.states import AttentionPast, CombaPast, Resumed

__all__ = [
    "WORTH_COMPILING",
    "CompileError",
    "Kernels",
    "active_kernels",
    "compiled",
    "load_kernels",
    "use_kernels",
]

# Job size, in floating-point operations, from which a second of compilation pays off: about two seconds of PyTorch.
WORTH_COMPILING = 1.5e11


def _sizes(config: CrossDNAConfig, dtype: torch.dtype) -> Sizes:
    if dtype not in (torch.float32, torch.float64):
        raise CompileError(f"there are kernels for float32 and float64, not for {str(dtype).removeprefix('torch.')}")
    return Sizes.of(config.to_dict(), double=dtype == torch.float64)


def compiled(config: CrossDNAConfig, dtype: torch.dtype) -> bool:
    """Whether the kernels are already compiled, by the build of the package or by an earlier run."""
    try:
        return compiling.kept(_sizes(config, dtype)) is not None
    except (OSError, RuntimeError):  # an unreadable folder, a user without a home folder, another dtype
        return False


class _Array:
    """A ctypes argument type for a pointer to the values of a tensor. It checks the tensor in every call.

    Args:
        dtype: dtype of the tensor.
        optional: whether None is allowed, as a null pointer.
        rows_apart: whether there may be gaps between rows in memory.
    """

    def __init__(self, dtype: torch.dtype, *, optional: bool = False, rows_apart: bool = False) -> None:
        self.dtype, self.optional, self.rows_apart = dtype, optional, rows_apart

    def from_param(self, x: Tensor | None) -> ctypes.c_void_p | None:
        if x is None and self.optional:
            return None
        if not isinstance(x, Tensor):
            raise TypeError(f"a tensor of {self.dtype} is needed, not {type(x).__name__}")
        if x.dtype != self.dtype or x.device.type != "cpu":
            raise TypeError(f"a tensor of {self.dtype} on the CPU is needed, not of {x.dtype} on {x.device}")
        if not (x.is_contiguous() or (self.rows_apart and x.stride(-1) == 1)):
            raise TypeError(
                f"a contiguous tensor is needed, not one of shape {tuple(x.shape)} and strides {x.stride()}"
            )
        return ctypes.c_void_p(x.data_ptr())


def signatures(dtype: torch.dtype) -> dict[str, dict[str, Any]]:
    """Names and types of the arguments of each compiled function, in order, for kernels of this dtype."""
    integer, long = ctypes.c_int, ctypes.c_long
    real = ctypes.c_double if dtype == torch.float64 else ctypes.c_float
    integers, integers_or_none = _Array(torch.int32), _Array(torch.int32, optional=True)
    reals, reals_or_none, rows = _Array(dtype), _Array(dtype, optional=True), _Array(dtype, rows_apart=True)
    return {
        "comba": {
            "sequences": integer, "offsets": integers, "owned": integers, "starts": integers_or_none,
            "which": integers_or_none, "heads": integer, "width": integer, "projected": reals,
            "around": reals_or_none, "tail": reals_or_none, "taps": reals_or_none, "state": reals_or_none,
            "rate": reals, "step": reals, "to_p": reals, "skip": reals, "weight": reals, "epsilon": real, "out": reals,
        },
        "states_at": {
            "places": integer, "positions": integers, "chunks": integer, "size": integer, "heads": integer, "kq": reals,
            "fade": reals, "keep": reals, "states": reals, "updates": reals, "out": reals,
        },
        "attention": {
            "sequences": integer, "offsets": integers, "starts": integers, "heads": integer, "kv_heads": integer,
            "window": integer, "projections": reals, "past_keys": reals_or_none, "past_values": reals_or_none,
            "stride": integer, "cosine": reals, "sine": reals, "table": integer, "out": reals,
        },
        "dilated": {
            "sequences": integer, "length": integer, "width": integer, "dilations": integer, "x": reals, "taps": reals,
            "out": reals,
        },
        "gated": {"positions": long, "width": integer, "rows": reals, "out": reals},
        "rms_norm": {
            "positions": long, "width": integer, "x": reals, "weight": reals, "epsilon": real, "scale": real,
            "out": reals,
        },
        "gate_norm": {
            "positions": long, "width": integer, "m": reals, "t": reals, "logits": reals, "temperature": real,
            "weight": reals_or_none, "bias": reals_or_none, "epsilon": real, "out": reals,
        },
        "receive": {
            "sequences": integer, "length": integer, "width": integer, "x": reals, "logits": rows, "stride": integer,
            "message": reals, "whole": reals, "weight": reals, "bias": reals, "epsilon": real, "out": reals,
        },
    }  # fmt: skip


# Functions that return whether there was enough memory. The others return nothing.
NEEDS_MEMORY = ("comba", "states_at", "attention")


@functools.cache
def _load(path: Path, dtype: torch.dtype) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name, arguments in signatures(dtype).items():
        # A function from a prototype takes arguments by name and checks their number.
        result = ctypes.c_int if name in NEEDS_MEMORY else None
        prototype: Any = ctypes.CFUNCTYPE(result, *arguments.values())
        setattr(library, name, prototype((name, library), tuple((1, argument) for argument in arguments)))
    return library


def load_kernels(config: CrossDNAConfig, dtype: torch.dtype) -> Kernels:
    """Load the kernels for a model's sizes. Compile them first if necessary.

    Raises:
        CompileError: there is no compiler, it fails, other users can change the folder, or the dtype is neither
            float32 nor float64.
    """
    sizes = _sizes(config, dtype)
    try:
        path = compiling.kept_or_compiled(sizes)
        return Kernels(_load(path, dtype), sizes)
    except CompileError:
        raise
    except (OSError, RuntimeError) as error:  # a read-only folder, no home folder, a library that does not load
        raise CompileError(f"the kernels cannot be kept or loaded: {error}") from error


def _check_memory(done: int, work: str) -> None:
    if not done:
        raise MemoryError(f"No memory for {work}.")


def _evenly(n: int, length: int) -> Tensor:
    return torch.arange(n + 1, dtype=torch.int32, device="cpu") * length


class Kernels:
    """The compiled functions, for CPU tensors of one dtype. Shapes are as in the PyTorch code of the same name.

    Args:
        library: the loaded kernels.
        sizes: sizes for which the kernels are compiled.
    """

    def __init__(self, library: ctypes.CDLL, sizes: Sizes) -> None:
        self.library, self.sizes = library, sizes
        self.dtype = torch.float64 if sizes.double else torch.float32
        self._scratch = threading.local()

    def _space(self, name: str, *shape: int) -> Tensor:
        """Named scratch memory. Later calls in this thread reuse it, because cached memory is fast."""
        spaces: dict[str, Tensor] = vars(self._scratch)
        size = math.prod(shape)
        if name not in spaces or spaces[name].numel() < size:
            with torch.inference_mode(False):  # a reused tensor must also work outside inference mode
                spaces[name] = torch.empty(size, dtype=self.dtype, device="cpu")
        return spaces[name][:size].view(shape)

    def project(self, x: Tensor, weight: Tensor) -> Tensor:
        """x (B, l, H) times weight^T. The result is scratch memory and valid until the next call."""
        rows = x.reshape(-1, x.shape[-1])
        out = self._space("project", len(rows), len(weight))
        return torch.mm(rows, weight.t(), out=out).view(*x.shape[:-1], len(weight))

    def serves(self, x: Tensor) -> bool:
        """Whether the kernels support `x`: same dtype, no gradients and no autocast."""
        apart = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
        return x.dtype == self.dtype and x.device.type == "cpu" and not apart

    def comba(
        self,
        projected: Tensor,
        taps: Tensor | None,
        past: CombaPast | None,
        per_head: tuple[Tensor, Tensor, Tensor, Tensor],
        norm: Tensor,
        eps: float,
        *,
        resumed: Resumed | None = None,
        around: Tensor | None = None,
        owned: Tensor | None = None,
    ) -> Tensor:
        """Normed and gated outputs (B, l, n d_v).

        Args:
            projected: (B, l, width) input projections.
            taps: (TAPS, channels) weights of the convolution.
            past: state before the first position.
            per_head: exp(A_log), dt_bias, sigmoid(decay), D sigmoid(decay), each (n,).
            norm: (d_v,), weight of the norm.
            eps: epsilon of the norm.
            resumed: for concatenated sequences. Then B is 1, the result is (1, T, n d_v), and the state in `past` is
                (p, n, d, d_v), one before each of `resumed.places`.
            around: (1, l, width) projections of the reference, for positions without their own.
            owned: offsets of the sequences' own rows in `projected`, if these rows do not reach the end.
        """
        projected = projected.contiguous()
        batch, length, width = projected.shape
        if resumed is None:
            offsets, starts, which = _evenly(batch, length), None, None
        else:
            offsets, starts, which = resumed.offsets, resumed.starts, resumed.which
        owned = offsets if owned is None else owned
        around = None if around is None else around.contiguous()
        heads = len(per_head[0])
        tail = None if past is None or past.tail is None else past.tail.contiguous()
        state = None if past is None else past.state.contiguous()
        rate, step, to_p, skip = (x.contiguous() for x in per_head)
        positions = int(offsets[-1])
        out = self._space("comba", batch, positions // batch, heads * len(norm))
        done = self.library.comba(
            sequences=len(offsets) - 1, offsets=offsets, owned=owned, starts=starts, which=which, heads=heads,
            width=width, projected=projected, around=around, tail=tail, taps=taps, state=state, rate=rate, step=step,
            to_p=to_p, skip=skip, weight=norm, epsilon=eps, out=out,
        )  # fmt: skip
        _check_memory(done, f"Comba over {positions:,} positions")
        return out

    def states_at(self, positions: np.ndarray, trace: RecurrenceTrace) -> Tensor:
        """State (p, n, d, d_v) before each of p positions, from a `recurrence.RecurrenceTrace`."""
        chunks, states, updates = trace.chunks, trace.states, trace.updates
        assert chunks is not None
        assert states is not None
        assert updates is not None
        assert chunks.size <= CHUNK  # the buffer size of the kernel
        at = torch.from_numpy(positions.astype(np.int32))
        out = states.new_empty(len(at), *states.shape[1:])
        done = self.library.states_at(
            places=len(at), positions=at, chunks=len(states), size=chunks.size, heads=states.shape[1],
            kq=chunks.kq.contiguous(), fade=chunks.fade.contiguous(), keep=chunks.keep.contiguous(),
            states=states.contiguous(), updates=updates.contiguous(), out=out,
        )  # fmt: skip
        _check_memory(done, f"Comba's states before {len(at):,} positions")
        return out

    def attention(
        self,
        projections: Tensor,
        kv_heads: int,
        window: int,
        past: AttentionPast | None,
        table: tuple[Tensor, Tensor],
        resumed: Resumed | None = None,
    ) -> Tensor:
        """Attention output (B, l, H) from projections (B, l, (heads + 2 kv_heads) d).

        Args:
            projections: queries, keys and values.
            kv_heads: number of key/value heads.
            window: positions that a query sees.
            past: keys and values before the first position.
            table: the rotary table of these positions.
            resumed: for concatenated sequences. Then B is 1, and `past` and `table` cover all positions.
        """
        projections, (cos, sin) = projections.contiguous(), table
        batch, length, width = projections.shape
        dim = 2 * cos.shape[1]
        heads = width // dim - 2 * kv_heads
        keys, values = (None, None) if past is None else (past.keys.contiguous(), past.values.contiguous())
        before = 0 if keys is None else keys.shape[2]
        if resumed is None:
            offsets, starts = _evenly(batch, length), torch.full((batch,), before, dtype=torch.int32, device="cpu")
        else:
            offsets, starts = resumed.offsets, resumed.starts
        out = projections.new_empty(batch, length, heads * dim)
        done = self.library.attention(
            sequences=len(starts), offsets=offsets, starts=starts, heads=heads, kv_heads=kv_heads, window=window,
            projections=projections, past_keys=keys, past_values=values, stride=before * dim, cosine=cos, sine=sin,
            table=before if resumed is None else 0, out=out,
        )  # fmt: skip
        _check_memory(done, f"the attention over {length:,} positions")
        return out

    def dilated(self, x: Tensor, taps: Tensor) -> Tensor:
        """Dilated convolutions (B, l, dilations H) of x (B, l, H), dilations 1, 2, 4, ...; taps (dilations, 9, H)."""
        x = x.contiguous()
        batch, length, width = x.shape
        out = self._space("dilated", batch, length, len(taps) * width)
        self.library.dilated(sequences=batch, length=length, width=width, dilations=len(taps), x=x, taps=taps, out=out)
        return out

    def gated(self, rows: Tensor) -> Tensor:
        """silu(gate) * up (B, l, width) from gate and up (B, l, 2 width). The width must be a multiple of 256."""
        rows = rows.contiguous()
        out = self._space("gated", *rows.shape[:-1], rows.shape[-1] // 2)
        positions = rows.numel() // rows.shape[-1]
        self.library.gated(positions=positions, width=out.shape[-1], rows=rows, out=out)
        return out

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float, scale: float) -> Tensor:
        """`scale` times the RMS norm of x (B, l, H)."""
        x = x.contiguous()
        out = torch.empty_like(x)
        self.library.rms_norm(
            positions=x.numel() // x.shape[-1], width=x.shape[-1], x=x, weight=weight, epsilon=eps, scale=scale, out=out
        )
        return out

    def gate_norm(
        self, m: Tensor, t: Tensor, logits: Tensor, norm: nn.LayerNorm | None, temperature: float = 1.0
    ) -> Tensor:
        """LayerNorm of lerp(m, t, sigmoid(logits / temperature)), all (B, l, H). No weights if `norm` is None."""
        m, t, logits = m.contiguous(), t.contiguous(), logits.contiguous()
        out = torch.empty_like(m)
        weight, bias, eps = (None, None, 1e-5) if norm is None else (norm.weight, norm.bias, norm.eps)
        self.library.gate_norm(
            positions=m.numel() // m.shape[-1], width=m.shape[-1], m=m, t=t, logits=logits, temperature=temperature,
            weight=weight, bias=bias, epsilon=eps, out=out,
        )  # fmt: skip
        return out

    def receive(self, x: Tensor, logits: Tensor, message: Tensor, whole: Tensor, norm: nn.LayerNorm) -> Tensor:
        """LayerNorm of x + sigmoid(logits) (message + whole), all (B, l, H), but `whole` (B, 1, H)."""
        x, message, whole = x.contiguous(), message.contiguous(), whole.contiguous()
        batch, length, width = x.shape
        out = torch.empty_like(x)
        self.library.receive(
            sequences=batch, length=length, width=width, x=x, logits=logits, stride=logits.stride(1), message=message,
            whole=whole, weight=norm.weight, bias=norm.bias, epsilon=norm.eps, out=out,
        )  # fmt: skip
        return out


_active: ContextVar[Kernels | None] = ContextVar("active_kernels", default=None)


@contextmanager
def use_kernels(kernels: Kernels | None) -> Iterator[None]:
    """Context in which CrossDNA modules use these kernels, or no kernels if None. Other threads are not affected."""
    token = _active.set(kernels)
    try:
        yield
    finally:
        _active.reset(token)


def active_kernels(x: Tensor) -> Kernels | None:
    """The active kernels if they support `x`, or None for PyTorch."""
    kernels = _active.get()
    return kernels if kernels is not None and kernels.serves(x) else None
