"""Time and memory of the strand exchange analysis.

    python tests/benchmarks/exchange.py

Each case runs in its own process. The peak memory is without that of loading the model. Nothing is asserted here.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

import crossdna_interpret as cdi
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA


def bundled() -> tuple[CrossDNA, str]:
    return cdi.load_model(), cdi.example().sequence


def released(length: int) -> tuple[CrossDNA, str]:
    """The released 8.1M configuration with random weights."""
    torch.manual_seed(0)
    model = CrossDNA(CrossDNAConfig(), ["activity"]).eval().requires_grad_(False)
    return model, "".join(np.random.default_rng(0).choice(list("ACGT"), length))


CASES: dict[str, tuple[Callable[[], tuple[CrossDNA, str]], Callable[[CrossDNA, str], object]]] = {
    "strand_exchange, bundled, 164 bp": (bundled, lambda model, seq: cdi.strand_exchange(seq, model)),
    "ablate_exchange, bundled, 164 bp": (
        bundled,
        lambda model, seq: cdi.ablate_exchange(seq, model, positions=range(60, 80)),
    ),
    "exchange_ism, bundled, 164 bp": (bundled, lambda model, seq: cdi.exchange_ism(seq, model)),
    "exchange_ism with positions, bundled, 164 bp": (
        bundled,
        lambda model, seq: cdi.exchange_ism(seq, model, positions=True),
    ),
    "strand_exchange, 8.1M, 164 bp": (lambda: released(164), lambda model, seq: cdi.strand_exchange(seq, model)),
    "strand_exchange, 8.1M, 1,024 bp": (lambda: released(1024), lambda model, seq: cdi.strand_exchange(seq, model)),
    "strand_exchange, 8.1M, 4,096 bp": (lambda: released(4096), lambda model, seq: cdi.strand_exchange(seq, model)),
}


def one(name: str) -> dict[str, float]:
    """First call, the median of later ones, and the peak of memory in MB."""
    make, work = CASES[name]
    model, sequence = make()
    cdi.predict(sequence, model)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        work(model, sequence)
        seconds.append(time.perf_counter() - start)
        if sum(seconds) > 60:
            break
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    later = float(np.median(seconds[1:])) if len(seconds) > 1 else seconds[0]
    return {"first_s": seconds[0], "later_s": later, "above_MB": (after - before) / 1024, "peak_MB": after / 1024}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(one(sys.argv[1])))
    else:
        print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
        for case in CASES:
            found = subprocess.run([sys.executable, __file__, case], capture_output=True, text=True, check=True)
            row = json.loads(found.stdout)
            print(
                f"{case:46s} first {row['first_s']:6.2f} s, then {row['later_s']:6.2f} s, "
                f"peak {row['peak_MB']:6.0f} MB, of which {row['above_MB']:5.0f} for this"
            )
