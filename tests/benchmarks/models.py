"""Size of each bundled model, and the time for every substitution of a sequence that it was trained for.

python tests/benchmarks/models.py
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import torch

import crossdna_interpret as cdi
from crossdna_interpret.io.examples import example_sequences, fitting_example
from crossdna_interpret.models.training_range import outside_training

RUNS = 7


def seconds(sequence: str, model: cdi.SequenceModel) -> float:
    """Time of one mutagenesis, with kernels that are compiled already."""
    start = time.perf_counter()
    cdi.ism(sequence, model, target=0)
    return time.perf_counter() - start


def main() -> None:
    lines = ["| model | parameters | file | every substitution of |", "|---|---|---|---|"]
    for name in cdi.list_models():
        model = cdi.load_model(name)
        example = fitting_example(lambda each, model=model: outside_training(model, each) is None)  # type: ignore[misc]
        sequence = example_sequences()[example]
        cdi.ism(sequence, model, target=0, compile=True)
        median = statistics.median(seconds(sequence, model) for _ in range(RUNS))
        assert isinstance(model, torch.nn.Module)
        count = sum(parameter.numel() for parameter in model.parameters())
        weights = Path(cdi.__file__).parent / "assets" / "models" / name / "model.safetensors"
        size = weights.stat().st_size / 1e6
        lines.append(f"| `{name}` | {count:,} | {size:.1f} MB | {len(sequence)} bp: {median:.2f} s |")
    sys.stdout.write("\n".join(lines) + f"\n\nMedians of {RUNS}, {torch.get_num_threads()} threads.\n")


if __name__ == "__main__":
    main()
