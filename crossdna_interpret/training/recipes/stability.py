"""Do two models that were trained from different seeds explain sequences in the same way?

    python -m crossdna_interpret.training.recipes.stability MODEL MODEL --table TABLE --column COLUMN

The table is tab-separated. It prints the agreement of the mutagenesis maps of `--rows` random sequences, which should
be sequences that neither model was trained on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd

from crossdna_interpret.attribution.mutagenesis import ism
from crossdna_interpret.dna import alphabet
from crossdna_interpret.models.protocols import SequenceModel
from crossdna_interpret.models.registry import load_model
from crossdna_interpret.statistics import pearson

__all__ = ["agreement_of_maps"]


def agreement_of_maps(first: SequenceModel, second: SequenceModel, sequences: Sequence[str]) -> np.ndarray:
    """(N, T) r of the predicted effects of all single substitutions, for N sequences and T targets.

    Args:
        first, second: models with the same targets.
        sequences: the sequences.

    Raises:
        ValueError: the models have different targets.
    """
    agreement = []
    for sequence in sequences:
        one, other = (ism(sequence, model, target=0) for model in (first, second))
        if one.targets != other.targets:
            raise ValueError(f"`second` must have the targets {one.targets}, but has {other.targets}.")
        substituted = alphabet.encode(one.sequence)[:, None] != np.arange(4)
        effects = [(each.predictions - each.reference)[substituted] for each in (one, other)]
        agreement.append([pearson(x, y) for x, y in zip(effects[0].T, effects[1].T, strict=True)])
    return np.array(agreement)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the mean agreement for each target, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs=2, metavar="MODEL", help="names or folders of two models")
    parser.add_argument("--table", required=True, help="table with sequences")
    parser.add_argument("--column", default="sequence", help="its column of sequences (%(default)s)")
    parser.add_argument("--rows", type=int, default=100, help="number of sequences (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of their choice (%(default)s)")
    options = parser.parse_args(argv)
    first, second = (load_model(each) for each in options.models)
    table = pd.read_csv(options.table, sep="\t", dtype=str, keep_default_na=False)
    if options.column not in table.columns:
        parser.error(f"--column must be one of {', '.join(table.columns)}, but is {options.column}")
    if options.rows < 1:
        parser.error(f"--rows must be at least 1, but is {options.rows}")
    chosen = table[options.column].sample(min(options.rows, len(table)), random_state=options.seed).tolist()
    agreement = agreement_of_maps(first, second, chosen)
    result = {
        name: {"mean": r.mean(), "lowest": r.min(), "highest": r.max(), "sequences": len(r)}
        for name, r in zip(first.targets, agreement.T, strict=True)
    }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
