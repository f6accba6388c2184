"""Train the model `yeast-promoter` from the table of yeast promoters.

    python -m crossdna_interpret.training.recipes.yeast.promoter --data DIR --run DIR

The data are train.tsv.gz and valid.tsv.gz. Several `--teachers` learn the measurements, each for `--teacher-epochs`.
They predict `--families` starting sequences and three mutants of each, from which the model learns with the
measurements. A `--batch` has that many rows, each with a relative beside it. The same command continues a stopped run
from its last checkpoint. At the end, the model and its card are written to `<run>/model` in the layout of this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from crossdna_interpret.dna.strand import reverse_complement_ids
from crossdna_interpret.measured.truth import truth_report
from crossdna_interpret.models.change_errors import ChangeErrors
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.motifs.collection import Motif, from_database
from crossdna_interpret.statistics import pearson
from crossdna_interpret.training.allocation import keep_freed_memory
from crossdna_interpret.training.module import channels
from crossdna_interpret.training.recipes.families import Families, joined
from crossdna_interpret.training.recipes.family_training import FamilyFinetuning, FamilyPlain, family_measures
from crossdna_interpret.training.recipes.motif_network import MotifNetwork
from crossdna_interpret.training.recipes.pseudo_labels import pseudo_labelled
from crossdna_interpret.training.recipes.script import exported, facts_of, options_of, recipe_parser, run_options
from crossdna_interpret.training.recipes.student import scores_of, untrained_student
from crossdna_interpret.training.recipes.yeast.promoters import LENGTH, TARGETS, read_split, well_measured
from crossdna_interpret.training.run import RunOptions, fit, must_be_finite

CONFIG = CrossDNAConfig(
    d_model=96, depth=2, block_size=128, comba_heads=3, comba_head_dim=24, attention_heads=4, window_size=128,
    rc_blocks="aligned", dropout=0.0,
)  # fmt: skip
CARD = Path(__file__).with_name("card.md")
_TEACHER = {"learning_rate": 3e-3, "weight_decay": 0.05}
_TEACHER_AVERAGE = 0.998
_STEM = 48  # filters of the stem that begin as motifs
_DRAWS = 8  # sub-networks for the spread of predicted changes, the default of `mutation_intervals`


class Teachers:
    """The mean of several networks: ids (N, L) -> scores (N, T). `minutes` is the time of their training."""

    def __init__(self, networks: Sequence[MotifNetwork], minutes: float) -> None:
        self.networks, self.minutes = [network.eval() for network in networks], minutes

    def each(self, ids: np.ndarray) -> np.ndarray:
        """Scores (networks, N, T)."""
        parts = torch.from_numpy(ids).split(512)
        with torch.inference_mode():
            scores = [
                torch.cat([network(channels(part, torch.float32)) for part in parts]) for network in self.networks
            ]
        result: np.ndarray = torch.stack(scores).numpy()
        return result

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        mean: np.ndarray = self.each(ids).mean(0)
        return mean


def trained_teachers(
    train: Families, valid: Families, motifs: Sequence[Motif], count: int, folder: Path, options: RunOptions
) -> Teachers:
    """Networks with different seeds, each with a folder of its own. Stopped runs continue."""
    networks, minutes = [], 0.0
    for seed in range(options.seed, options.seed + count):
        network = MotifNetwork(motifs, len(TARGETS), length=LENGTH, seed=seed)
        last = network.out[-1]
        assert isinstance(last, torch.nn.Linear)
        with torch.no_grad():
            last.bias.copy_(torch.from_numpy(train.means()))
        module = FamilyPlain(network, offsets=torch.zeros(1, len(TARGETS)), seed=seed, **_TEACHER)
        facts = fit(module, train, valid, folder / str(seed), replace(options, seed=seed, average=_TEACHER_AVERAGE), {})
        networks.append(network)
        minutes += facts["minutes"]
    return Teachers(networks, minutes)


def measured(scores: np.ndarray, valid: Families) -> dict[str, float]:
    """Measures of scores (N, T) on the validation rows, with the names of the card."""
    measures = family_measures(scores[:, 0], valid.targets[:, 0], valid.pairs)
    second = family_measures(scores[:, 1], valid.targets[:, 1], valid.pairs)
    return {f"valid_{name}": value for name, value in measures.items()} | {"valid_r_1": second["r"]}


def errors_of_changes(model: CrossDNA, table: pd.DataFrame) -> dict[str, float]:
    """Find the errors of predicted changes, for the intervals of mutagenesis, and keep them in the model.

    Returns:
        For the first target: `slope` of measured on predicted changes, and `coverage` of 90 % intervals, each found
        from the errors in other families.
    """
    for target in reversed(TARGETS):
        report = truth_report(table, model, measured=target, draws=_DRAWS)
        model.change_errors[target] = ChangeErrors.from_dict(report.errors)
    summary = report.summary()
    return {"slope": summary["slope"], "coverage": summary["coverage"]}


def main(argv: Sequence[str] | None = None) -> None:
    """Train, evaluate and export. Prints the folder of the model and its measures."""
    parser = recipe_parser(
        __doc__, teachers=3, teacher_epochs=10, families=24_000, epochs=6, batch=64, learning_rate=2e-3,
        weight_decay=0.02, seed=0,
    )  # fmt: skip
    options = options_of(parser, argv, min_rows=400)
    train, valid = (read_split(options.data, split) for split in ("train", "valid"))
    if options.rows is not None:
        train, valid = (table.rows(np.arange(min(options.rows, len(table)))) for table in (train, valid))
    motifs = from_database("fungi")
    how = RunOptions(epochs=options.teacher_epochs, batch=64, seed=options.seed, threads=options.threads)
    teachers = trained_teachers(train, valid, motifs, options.teachers, options.run / "teachers", how)
    every = pseudo_labelled(train, teachers, options.families, seed=options.seed)
    of_teachers = [measured(scores, valid) for scores in teachers.each(valid.ids)]
    of_teachers.append(measured(teachers(valid.ids), valid))
    model = untrained_student(CONFIG, train, motifs, name="yeast-promoter", filters=_STEM, seed=options.seed)
    module = FamilyFinetuning(
        model,
        offsets=torch.zeros(1, len(TARGETS)),
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        seed=options.seed,
    )
    facts: dict[str, Any] = {
        **facts_of("crossdna_interpret.training.recipes.yeast.promoter", options, model),
        "train": len(train), "valid": len(valid), "taught": len(every),
        "motifs": len(motifs), "stem": min(_STEM, len(motifs)),
        "teacher_parameters": sum(p.numel() for p in teachers.networks[0].parameters()),
        "teacher_r": ", ".join(f"{each['valid_r']:.3f}" for each in of_teachers),
        "teacher_r_changes": ", ".join(f"{each['valid_r_changes']:.3f}" for each in of_teachers),
    }  # fmt: skip
    facts = fit(module, joined(train, every), valid, options.run / "student", run_options(options), facts)
    facts["teacher_minutes"] = teachers.minutes
    module.cpu().recentre(train, both_orientations=False)
    module.fold()
    model = module.model.eval()
    scores = scores_of(model, valid.ids)
    facts |= measured(scores, valid)
    other_strand = scores_of(model, reverse_complement_ids(valid.ids))
    facts["r_of_strands"] = pearson(scores[:, 0], other_strand[:, 0])
    facts |= errors_of_changes(model, well_measured(options.data / "valid.tsv.gz").head(options.rows or len(valid)))
    reached = must_be_finite(facts, options.run / "student")
    parser.exit(message=exported(model, facts, CARD, options.run / "model", reached))


if __name__ == "__main__":
    keep_freed_memory()
    main()
