"""A few edits of each of many sequences: batched across sequences, and sequence by sequence; and the time to import.

    python tests/benchmarks/many.py

Both ways are timed in turn in one process, on the bundled model. Ratios are of medians. Imports are timed in new
processes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import numpy as np

import crossdna_interpret as cdi


def alleles(count: int) -> tuple[list[str], list[list[tuple[int, int, str]]]]:
    """Random sequences of 164 bases, each with a substitution in the middle."""
    random = np.random.default_rng(0)
    sequences = ["".join(row) for row in random.choice(list("ACGT"), (count, 164))]
    return sequences, [[(82, 83, "ACGT"["TGCA".index(sequence[82])])] for sequence in sequences]


def seconds_of(action: object, *arguments: object) -> float:
    started = time.perf_counter()
    action(*arguments)  # type: ignore[operator]
    return time.perf_counter() - started


def imported(statement: str) -> float:
    """Seconds of a new interpreter."""
    return seconds_of(lambda: subprocess.run([sys.executable, "-c", statement], check=True))


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sequences, edits = alleles(options.sequences)
    model = cdi.load_model()
    cdi.score_edits(sequences[:4], edits[:4], model)
    together, one_by_one, ours, others = [], [], [], []
    for _ in range(options.rounds):
        together.append(seconds_of(cdi.score_edits, sequences, edits, model))
        one_by_one.append(
            seconds_of(lambda: [cdi.score_edits(*each, model) for each in zip(sequences, edits, strict=True)])
        )
        others.append(imported("import torch, pandas"))
        ours.append(imported("import crossdna_interpret"))
    fast, slow = statistics.median(together), statistics.median(one_by_one)
    count = options.sequences
    print(f"two alleles of {count} sequences of 164 bp: {fast:.2f} s together ({count / fast:.0f} a second),")
    print(f"{slow:.2f} s one by one, {slow / fast:.1f} times as long")
    a, b = statistics.median(ours), statistics.median(others)
    print(f"import crossdna_interpret {a:.2f} s, import torch, pandas {b:.2f} s: {a / b:.2f} times as long")


if __name__ == "__main__":
    main()
