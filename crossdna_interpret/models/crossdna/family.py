"""CrossDNA as a family of models, and the capabilities of its models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.models.checkpoints import FORMAT
from crossdna_interpret.models.crossdna.blocks import BlockPair
from crossdna_interpret.models.crossdna.checkpoint import FAMILY, load_crossdna
from crossdna_interpret.models.crossdna.comba import Comba, choose_backend
from crossdna_interpret.models.crossdna.exchange import Messages, Received, without_messages
from crossdna_interpret.models.crossdna.incremental import Incremental
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.crossdna.native import bindings
from crossdna_interpret.models.crossdna.subnetworks import sub_network
from crossdna_interpret.models.families import Family, register
from crossdna_interpret.models.protocols import (
    Acceleration,
    ArbitraryChoices,
    Compile,
    Concurrency,
    Exchange,
    Memory,
    Reuse,
    StrandPaths,
    SubNetworks,
    declare,
)

__all__: list[str] = []


@dataclass(frozen=True)
class _Memory:
    model: CrossDNA | Received

    def needed(self, n: int, length: int, *, gradients: bool = False) -> int:
        return self.model.memory_estimate(n, length, gradients=gradients)


@dataclass(frozen=True)
class _Concurrency:
    model: CrossDNA

    def problem(self) -> str | None:
        return self.model.plain_problem()  # CrossDNA's own modules store nothing between calls


@dataclass(frozen=True)
class _StrandPaths:
    model: CrossDNA

    def scores(self, x_forward: Tensor, x_reverse: Tensor) -> Tensor:
        return self.model.forward_strands(x_forward, x_reverse)


@dataclass(frozen=True)
class _Reuse:
    model: CrossDNA

    def problem(self) -> str | None:
        problem = self.model.plain_problem()
        if problem is not None:
            return problem
        if self.model.dtype not in (torch.float32, torch.float64):
            return f"{str(self.model.dtype).removeprefix('torch.')} rounds too coarsely to check it"
        comba = next(module for module in self.model.modules() if isinstance(module, Comba))
        if choose_backend(comba.backend, self.model.stem.conv_forward.weight) == "fla":
            return "flash-linear-attention's kernel rounds differently; set_backend('torch') allows it"
        return None

    def scorer(self, reference: np.ndarray) -> Incremental:
        return Incremental(self.model, reference)

    def recomputed(self, length: int) -> int:
        return min(length, self.model.config.block_size or length)

    @property
    def width(self) -> int:
        return self.model.config.d_model


@dataclass(frozen=True)
class _Acceleration:
    model: CrossDNA

    def operations(self, length: int) -> float:
        return self.model.operations(length)

    @contextmanager
    def accelerated(self, compile: Compile, operations: float) -> Iterator[str]:
        """Use compiled CPU kernels. They have no gradients."""
        model = self.model
        if model.device.type != "cpu":
            problem: str | None = f"the kernels are for the CPU, and the model is on {model.device.type}"
        else:
            problem = model.plain_problem() or self._memory_problem()
        kernels = None
        if compile is False:
            problem = "disabled"
        elif problem is None:
            small = compile == "auto" and operations < bindings.WORTH_COMPILING
            if small and not bindings.compiled(model.config, model.dtype):
                problem = "the job is too short to repay compilation"
            else:
                try:
                    kernels = bindings.load_kernels(model.config, model.dtype)
                except bindings.CompileError as error:
                    problem = str(error)
        if compile is True and kernels is None:
            raise RuntimeError(f"`compile`=True cannot be done: {problem}.")
        with bindings.use_kernels(kernels):
            yield f"no: {problem}" if kernels is None else "CPU kernels"

    def _memory_problem(self) -> str | None:
        """Reason why the kernels cannot read these weights from memory, or None."""
        for name, weight in self.model.named_parameters():
            if weight.dtype != self.model.dtype or not weight.is_contiguous():
                kind = str(weight.dtype).removeprefix("torch.")
                return f"{name} is {kind if weight.dtype != self.model.dtype else 'not contiguous'}"
        return None


@dataclass(frozen=True)
class _Exchange:
    model: CrossDNA

    def problem(self) -> str | None:
        return None if self.model.bridge is not None else f"{self.model.name} has no bridge"

    def messages(self, ids: np.ndarray, target: int) -> Messages:
        return Messages(self.model, ids, target)

    def without(self) -> CrossDNA:
        return without_messages(self.model)

    def received(self, target: int, length: int) -> Received:
        return Received(self.model, target, length)


@dataclass(frozen=True)
class _ArbitraryChoices:
    model: CrossDNA

    def strands_swapped(self, ids: np.ndarray) -> np.ndarray:
        pairs = [BlockPair(pair.index, pair.branch_b, pair.branch_a) for pair in self.model.pairs(len(ids))]
        return self._scores(ids, pairs)

    def shifts(self, length: int) -> tuple[int, ...]:
        size = self.model.config.block_size
        if size is None or length <= size:
            return ()
        return tuple(sorted({max(1, size * quarter // 4) for quarter in (1, 2, 3)}))

    def shifted(self, ids: np.ndarray, shift: int) -> np.ndarray:
        assert self.model.config.block_size is not None
        return self._scores(ids, self.model.pairs(len(ids), first=self.model.config.block_size - shift))

    @torch.no_grad()
    def _scores(self, ids: np.ndarray, pairs: list[BlockPair]) -> np.ndarray:
        x = torch.from_numpy(alphabet.one_hot(ids[None])).to(device=self.model.device, dtype=self.model.dtype)
        scores: np.ndarray = self.model.forward_strands(x, strand.reverse_complement(x), pairs)[0].cpu().numpy()
        return scores


@dataclass(frozen=True)
class _SubNetworks:
    model: CrossDNA

    def draw(self, number: int) -> CrossDNA:
        return sub_network(self.model, number)


def _sub_networks(model: CrossDNA) -> _SubNetworks | None:
    possible = model.head is not None and model.plain_problem() is None
    return _SubNetworks(model) if possible else None


def _unless_bypassed(kind: Callable[[CrossDNA], Any]) -> Callable[[CrossDNA], Any]:
    """A capability that computes without `forward`. A model whose `forward` does more does not have it."""

    def of(model: CrossDNA) -> Any:
        return kind(model) if model.bypass_problem() is None else None

    return of


def _recognises(config: Mapping[str, Any]) -> bool:
    if config.get("format") == FORMAT:
        return config.get("family", FAMILY) == FAMILY
    return config.get("model_type") == "crossdna" or "comba_cfg" in config


def _set_backend(model: Any, backend: Any) -> None:
    choose_backend(backend, model.lm_head.weight)
    model.set_backend(backend)


register(
    Family(
        name=FAMILY,
        model=CrossDNA,
        recognises=_recognises,
        load=load_crossdna,
        offers={
            Memory: _Memory,
            Concurrency: _Concurrency,
            StrandPaths: _unless_bypassed(_StrandPaths),
            Reuse: _Reuse,
            Acceleration: _Acceleration,
            Exchange: _Exchange,
            ArbitraryChoices: _unless_bypassed(_ArbitraryChoices),
            SubNetworks: _sub_networks,
        },
        backends=("fla",),
        set_backend=_set_backend,
    )
)
declare(Received, {Memory: _Memory})
