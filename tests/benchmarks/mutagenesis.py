"""Speed of in-silico mutagenesis: this package, the same without reuse, and tangermeme, on one model in one run.

    python tests/benchmarks/mutagenesis.py --json mutagenesis.json

Measurements of one case alternate, because the speed of a shared machine drifts. Ratios are of medians. Nothing is
asserted here: exactness is checked in the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
import torch

import crossdna_interpret as cdi
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.edits import Editor
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.incremental import Incremental
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.crossdna.native import bindings as kernels
from crossdna_interpret.scoring.runner import run_edits

BATCHES = (64, 128, 256)  # tangermeme's
PEERS = {fast: f"tangermeme, fast={fast}" for fast in (False, True)}
FORWARD_BATCHES = (1, 2, 4, 8, 16, 24, 32)


def matmul_rate(size: int = 1024) -> float:
    """Floating-point operations a second of a float32 matrix product, the best of some."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = min(timed(lambda: a @ b) for _ in range(30))
    return 2 * size**3 / best


def useful_operations(config: CrossDNAConfig, length: int) -> float:
    """Floating-point operations of a forward pass: two for a multiplication and addition, elementwise ones apart.

    Counted are products with weights, convolutions, the recurrence in its sequential form (three products of a
    key-sized vector with the state at each position: read for the correction, write, read for the output), and
    attention over the keys that a query sees. What chunks add to the sequential form, and masked keys, are not useful.
    """
    width, inner, block = config.d_model, config.mlp_width, min(length, config.block_size or length)
    heads, key, value = config.comba_heads, config.comba_head_dim, config.comba_value_dim
    kv = config.key_value_heads * width // config.attention_heads
    convolved = heads * (2 * key + value)
    weights = width * (convolved + heads * value + 2 * heads) + heads * value * width  # Comba
    weights += width * (width + 2 * kv) + width * width + 3 * width * inner + 2 * width * width
    seen = sum(min(i + 1, config.window_size) for i in range(block)) / block
    layer = weights + (config.conv_size or 0) * convolved + 3 * heads * key * value + 2 * seen * width
    bridge = 2 * (5 * 9 * width + 6 * width * width) + 8 * width * width if config.use_bridge else 0
    fusion = 2 * 4 * width * width + 2 * width * width
    return 2.0 * length * (2 * config.depth * layer + bridge + fusion + 2 * 9 * 5 * width)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def random_sequence(length: int) -> str:
    return "".join(np.random.default_rng(0).choice(list("ACGT"), length))


def released() -> CrossDNA:
    """The released 8.1M configuration with random weights."""
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = CrossDNA(CrossDNAConfig(), ["activity"]).eval().requires_grad_(False)
    torch.random.set_rng_state(state)
    return model


def ours(model: CrossDNA, sequence: str, window: tuple[int, int], compile: Any) -> Callable[[], object]:
    return lambda: cdi.ism(sequence, model, start=window[0], end=window[1], compile=compile)


@contextmanager
def kernels_nowhere() -> Iterator[Path]:
    """An empty folder for compiled kernels, and none elsewhere."""
    with tempfile.TemporaryDirectory() as empty, patch.dict(os.environ, CROSSDNA_INTERPRET_CACHE=empty):
        yield Path(empty)


def first_run(model: CrossDNA, sequence: str, window: tuple[int, int], note: dict[str, Any]) -> Callable[[], object]:
    """`compile="auto"` with no kernels anywhere; notes whether they were compiled."""

    def work() -> None:
        with kernels_nowhere() as empty:
            ours(model, sequence, window, "auto")()
            note["first run compiled"] = any(empty.iterdir())

    return work


def plain(model: CrossDNA, sequence: str, window: tuple[int, int], compile: Any) -> Callable[[], object]:
    """The same engine, batch size and kernels, without reuse."""
    edits = [cdi.Edit(i, i + 1, base) for i in range(*window) for base in alphabet.BASES if base != sequence[i]]

    return lambda: run_edits(
        model, Editor(sequence), edits, "plain", batch_size=None, compile=compile, cache=None, reuse=False
    )


def tangermeme(
    model: CrossDNA, sequence: str, window: tuple[int, int], batch_size: int, fast: bool
) -> Callable[[], object]:
    from tangermeme.saturation_mutagenesis import saturation_mutagenesis

    x = torch.from_numpy(alphabet.one_hot(alphabet.encode(sequence)))[None]
    return lambda: saturation_mutagenesis(
        model, x, start=window[0], end=window[1], batch_size=batch_size, raw_outputs=True, fast=fast, device="cpu"
    )


def tangermeme_settings(
    model: CrossDNA, sequence: str, window: tuple[int, int]
) -> tuple[dict[bool, int], dict[str, float]]:
    """Its fastest batch size on the window, `fast` or not, and what each took that the window fills, in seconds."""
    seconds: dict[tuple[bool, int], float] = {}
    for fast in (False, True):
        for batch in [n for n in BATCHES if n <= 3 * (window[1] - window[0])]:
            taken = timed_in_memory(f"batch {batch}, {PEERS[fast]}", tangermeme(model, sequence, window, batch, fast))
            if taken is not None:
                seconds[fast, batch] = taken
    in_order = sorted(seconds, key=seconds.__getitem__, reverse=True)
    return dict(in_order), {f"batch {batch}, fast={fast}": time for (fast, batch), time in seconds.items()}


def timed_in_memory(name: str, work: Callable[[], object]) -> float | None:
    """Seconds that tangermeme takes, or None if it needs more memory than the machine can give."""
    try:
        with limited_memory(), warnings.catch_warnings():
            # Where its fast path fails or is slower it takes the other one, which is timed by itself.
            warnings.filterwarnings("error", message=".*is using fast=False")
            return timed(work)
    except (MemoryError, RuntimeError, Warning) as error:  # the fast path may take tens of gigabytes
        print(f"{name}: {str(error).splitlines()[0][:150]}", flush=True)
        return None


@contextmanager
def limited_memory() -> Iterator[None]:
    """Let an allocation fail in the body, before the system runs out of memory and kills somebody."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    mapped = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (mapped + psutil.virtual_memory().available * 9 // 10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def paired(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, taken in turns; a setting of tangermeme that fails is left out from there on."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name in list(taken):
            seconds = timed_in_memory(name, works[name]) if name in PEERS.values() else timed(works[name])
            if seconds is None:
                del taken[name]
            else:
                taken[name].append(seconds)
    return {name: statistics.median(times) for name, times in taken.items()}


def mutagenesis(
    name: str, model: CrossDNA, sequence: str, window: tuple[int, int], rounds: int, *, pilot: int, peer: bool = True
) -> dict[str, Any]:
    """One case; `pilot` positions choose tangermeme's batch sizes.

    "ours" and "plain" compute on kernels at hand, as the package's build or an earlier run has left them; "eager" and
    "plain eager" on PyTorch alone; "first run" finds no kernels anywhere, and compiles them if that pays.
    """
    note: dict[str, Any] = {"case": name, "length": len(sequence), "positions": window[1] - window[0]}
    works = {
        "ours": ours(model, sequence, window, True),
        "plain": plain(model, sequence, window, True),
        "eager": ours(model, sequence, window, False),
        "plain eager": plain(model, sequence, window, False),
        "first run": first_run(model, sequence, window, note),
    }
    if peer:
        best, note["tangermeme settings, s"] = tangermeme_settings(
            model, sequence, (window[0], min(window[1], window[0] + pilot))
        )
        for fast, batch in best.items():
            works[PEERS[fast]] = tangermeme(model, sequence, window, batch, fast)
    with kernels_nowhere():
        note["compiling, s"] = timed(lambda: kernels.load_kernels(model.config, model.dtype))
        seconds = paired(works, rounds)
    note |= {f"{key}, s": value for key, value in seconds.items()}
    note["plain / ours"] = seconds["plain"] / seconds["ours"]
    note["plain eager / eager"] = seconds["plain eager"] / seconds["eager"]
    if peer:
        fast = min((flag for flag in best if PEERS[flag] in seconds), key=lambda flag: seconds[PEERS[flag]])
        note["tangermeme best"], of_peer = f"batch {best[fast]}, fast={fast}", seconds[PEERS[fast]]
        note["tangermeme / ours"] = of_peer / seconds["ours"]
        note["tangermeme / eager"] = of_peer / seconds["eager"]
        note["tangermeme / first run"] = of_peer / seconds["first run"]
    return note


def forward(model: CrossDNA, length: int, rounds: int) -> dict[str, Any]:
    """Share of the matrix-product rate that a forward pass reaches, each time against the rate of that moment."""
    note: dict[str, Any] = {"case": "forward pass, 8.1M", "length": length}
    operations = useful_operations(model.config, length)
    for kind in ("eager", "compiled"):
        result = kernels.load_kernels(model.config, model.dtype) if kind == "compiled" else None
        share: dict[int, float] = {}
        milliseconds: dict[int, float] = {}
        with kernels.use_kernels(result), torch.no_grad():
            for batch in FORWARD_BATCHES:
                ids = np.random.default_rng(0).integers(0, 4, (batch, length))
                x = torch.from_numpy(alphabet.one_hot(ids))
                model(x)
                shares, times = [], []
                for _ in range(rounds):
                    rate = matmul_rate()
                    times.append(min(timed(lambda x=x: model(x)) for _ in range(3)))
                    shares.append(operations * batch / times[-1] / rate)
                share[batch], milliseconds[batch] = statistics.median(shares), 1e3 * statistics.median(times) / batch
        best = max(share, key=share.__getitem__)
        note |= {f"{kind} share": share[best], f"{kind} batch": best, f"{kind}, ms a sequence": milliseconds[best]}
    return note


def linear(name: str, model: CrossDNA, lengths: tuple[int, ...], window: int, rounds: int) -> list[dict[str, Any]]:
    """Cost per base of a full-length run, from what the batches of a window take and what comes once.

    Batches are timed by themselves, without the first quarter, which tries sizes and reads blocks. What comes once, the
    certificate above all, takes minutes of the longest sequences: the difference of two windows would be its noise.
    """
    costs: dict[int, list[tuple[float, float]]] = {length: [] for length in lengths}
    block = model.config.block_size or min(lengths)
    for _ in range(rounds):
        for length, of_length in costs.items():
            start = length // 2 // block * block + (block - window) // 2  # about the middle of a block
            with batches_begun() as begun:
                total = timed(ours(model, random_sequence(length), (start, start + window), True))
            times, edits = zip(*begun[len(begun) // 4 :], strict=True)
            each = 3 * (times[-1] - times[0]) / sum(edits[:-1])
            of_length.append((each, total - each * window))
    notes = []
    for length, of_length in costs.items():
        each, once = (statistics.median(cost) for cost in zip(*of_length, strict=True))
        a_base = 1e3 * (each + once / length)
        notes.append({"case": f"cost per base, {name}", "length": length, "ms a base": a_base, "once, s": once})
    return notes


@contextmanager
def batches_begun() -> Iterator[list[tuple[float, int]]]:
    """When each batch of the reusing path begins in the body, and of how many edits it is."""
    begun: list[tuple[float, int]] = []
    score = Incremental.score

    def noted(self: Incremental, ids: np.ndarray) -> torch.Tensor:
        begun.append((time.perf_counter(), len(ids)))
        return score(self, ids)

    with patch.object(Incremental, "score", noted):
        yield begun


def peak_resident() -> int:
    """Bytes that this process has had in memory at most."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def peak_memory(length: int) -> dict[str, Any]:
    """Peak resident memory of a run above the loaded model, in a process of its own.

    As Linux counts it for the process itself: what `getrusage` gives begins with the peak of the one that started it.
    """
    import subprocess
    import sys

    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import mutagenesis as m, crossdna_interpret as cdi
model = m.released()
cdi.predict("ACGT" * 8, model)
before = m.peak_resident()
cdi.ism(m.random_sequence({length}), model, start={length // 2}, end={length // 2 + 8}, compile=True)
print(m.peak_resident() - before)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {"case": "peak memory above the model, 8.1M", "length": length, "MB": int(result.stdout) / 1e6}


def cases(quick: bool, only: str) -> Iterator[dict[str, Any]]:
    small, large = cdi.load_model(), released()
    rounds = 1 if quick else 3
    enhancer = cdi.example().sequence
    plan: list[tuple[str, Callable[[], Any]]] = [
        ("forward", lambda: [forward(large, 164, rounds)]),
        ("bundled", lambda: [mutagenesis("bundled model", small, enhancer, (0, 164), 5 * rounds, pilot=164)]),
        ("8.1M", lambda: [mutagenesis("8.1M", large, random_sequence(164), (0, 164), rounds, pilot=86)]),
        ("512", lambda: [mutagenesis("8.1M", large, random_sequence(512), (240, 272), rounds, pilot=22)]),
        ("1024", lambda: [mutagenesis("8.1M", large, random_sequence(1024), (504, 526), rounds, pilot=22)]),
        ("4 blocks", lambda: [
            mutagenesis("bundled, 4 blocks", small, random_sequence(1024), (384, 512), rounds, pilot=86)
        ]),
        ("16 blocks", lambda: [
            mutagenesis("bundled, 16 blocks", small, random_sequence(4096), (1920, 2048), rounds, pilot=22)
        ]),
        ("large blocks", lambda: [
            mutagenesis("8.1M, 16 blocks", large, random_sequence(16384), (8600, 8616), 1, pilot=1, peer=False)
        ]),
        ("linear", lambda: linear("bundled model", small, (1024, 4096, 16384, 65536), 512, rounds)),
        ("linear large", lambda: linear("8.1M", large, (1024, 4096, 16384, 65536), 64, rounds)),
        ("memory", lambda: [peak_memory(16384)]),
    ]  # fmt: skip
    for name, work in plan:
        if name.startswith(only):
            yield from work()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write everything that was measured")
    parser.add_argument("--quick", action="store_true", help="a third of the rounds")
    parser.add_argument("--only", default="", help="cases whose name begins so")
    arguments = parser.parse_args()
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "matrix products, GFLOP/s": matmul_rate() / 1e9,
    }
    print(machine, flush=True)
    notes = []
    for note in cases(arguments.quick, arguments.only):
        notes.append(note)
        shown = {key: f"{value:.3g}" if isinstance(value, float) else value for key, value in note.items()}
        print(shown, flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps({"machine": machine, "cases": notes}, indent=1))


if __name__ == "__main__":
    main()
