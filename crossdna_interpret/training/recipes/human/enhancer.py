"""Train the model `human-enhancer` from the published network MPRA-DragoNN (distillation).

    python -m crossdna_interpret.training.recipes.human.enhancer --data DIR --run DIR

The data are the folders human_mpra, genomic_benchmarks, hg38_chr22_slice and kircher_satmut. There are `--families`
starting sequences and three mutants of each. A `--batch` has that many rows, each with a relative beside it. The model
learns what each position adds to the teacher's activity. The same command continues a stopped run from its last
checkpoint. At the end, the model and its card are written to `<run>/model` in the layout of this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from crossdna_interpret.attribution.mutagenesis import ism
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.strand import reverse_complement_ids
from crossdna_interpret.io.fasta import read_fasta
from crossdna_interpret.measured.satmut import CAGI5, Effects, read_elements, read_variants, satmut
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.training_range import TrainingRange
from crossdna_interpret.statistics import pearson
from crossdna_interpret.training.allocation import keep_freed_memory
from crossdna_interpret.training.recipes.families import Families
from crossdna_interpret.training.recipes.human.distillation import PositionDistillation, begin_with_filters
from crossdna_interpret.training.recipes.human.teacher import LENGTH, TARGETS, Contributions, Dragonn, teach
from crossdna_interpret.training.recipes.human.windows import genome_windows, known_sequences
from crossdna_interpret.training.recipes.kmers import held_out_kmers, without_kmers
from crossdna_interpret.training.recipes.pseudo_labels import Teacher, pseudo_labelled
from crossdna_interpret.training.recipes.script import exported, facts_of, options_of, recipe_parser, run_options
from crossdna_interpret.training.recipes.student import scores_of
from crossdna_interpret.training.run import fit, must_be_finite

CONFIG = CrossDNAConfig(
    d_model=96, depth=2, block_size=256, comba_heads=2, comba_head_dim=24, attention_heads=4, window_size=256,
    rc_blocks="aligned", dropout=0.0,
)  # fmt: skip
CARD = Path(__file__).with_name("card.md")
LONGEST = 200  # bases of a training window, and of a lentiMPRA element
_STEP = 72  # bases from one training window to the next
_USUAL = 2000  # windows whose mean term is the usual one
_MAX_CHANGES = 12  # changed bases of a mutant


def human_windows(
    data: Path, chromosome: Path, elements: Path, measured: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Windows (N, 200) for training, and (M, 145) of a chromosome for validation.

    No training window shares 20 bases, on either strand, with the chromosome, with an element of saturation
    mutagenesis, or with a measured sequence.
    """
    (slice_,) = read_fasta(chromosome).values()
    held_out = [slice_, *(sequence for _, sequence in read_elements(elements).values()), *measured]
    windows = genome_windows(known_sequences(data), LONGEST, _STEP)
    return without_kmers(windows, held_out_kmers(held_out)), genome_windows([slice_], LENGTH, LENGTH)


def labelled(ids: np.ndarray, teacher: Teacher) -> Families:
    """Rows with the teacher's scores, without relatives."""
    return Families(ids, teacher(ids), np.ones(len(ids), np.float32), np.empty((0, 2), np.int64), TARGETS)


def begun(network: Dragonn, windows: np.ndarray, means: torch.Tensor, seed: int) -> CrossDNA:
    """A CrossDNA before training: its stem is the first layer of the teacher, its bias the usual activity."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CrossDNA(CONFIG, targets=list(TARGETS))
    model.name = "human-enhancer"
    model.training_range = TrainingRange.of([*windows, *windows[:, :LENGTH]])
    begin_with_filters(model, network)
    assert model.head is not None
    with torch.no_grad():
        model.head.linear.bias.copy_(means)
    return model


def validation(windows: np.ndarray, teacher: Teacher, seed: int) -> Families:
    """Windows with the teacher's scores, and for each a relative with one other base."""
    table = labelled(windows, teacher)
    random = np.random.default_rng(seed)
    rows, at = np.arange(len(windows)), random.integers(LENGTH, size=len(windows))
    mutants = windows.copy()
    mutants[rows, at] = (mutants[rows, at] + random.integers(1, 4, size=len(windows))) % 4
    return Families(
        np.concatenate([windows, mutants]),
        np.concatenate([table.targets, teacher(mutants)]),
        np.ones(2 * len(windows), np.float32),
        np.stack([rows, rows + len(windows)], axis=1),
        TARGETS,
    )


def agreement(scores: np.ndarray, valid: Families, *, name_of: str) -> dict[str, float]:
    """r of scores (N, 2) with those of the rows, and of the effects of single substitutions.

    The names of the measures begin with `name_of`.
    """
    one, other = valid.pairs.T
    result = {}
    for at, name in enumerate(TARGETS):
        of_teacher = valid.targets[:, at]
        result[f"{name_of}_r_{name}"] = pearson(scores[one, at], of_teacher[one])
        result[f"{name_of}_r_effects_{name}"] = pearson(
            scores[other, at] - scores[one, at], of_teacher[other] - of_teacher[one]
        )
    return result


def effects_of(score: Teacher) -> Effects:
    """Effects of all substitutions in a stretch of a window: the mean over both cell types."""

    def effects(sequence: str, start: int, end: int) -> np.ndarray:
        ids = alphabet.encode(sequence).astype(np.uint8)
        mutants = np.repeat(ids[None], (end - start) * 4, axis=0)
        mutants[np.arange(len(mutants)), np.repeat(np.arange(start, end), 4)] = np.tile(np.arange(4), end - start)
        change: np.ndarray = score(mutants).mean(1) - score(ids[None]).mean(1)
        return change.reshape(end - start, 4)

    return effects


def effects_of_model(model: CrossDNA) -> Effects:
    """The same by `ism`, which is faster and exact."""

    def effects(sequence: str, start: int, end: int) -> np.ndarray:
        result = ism(sequence, model, target=0, start=start, end=end)
        change: np.ndarray = (result.predictions - result.reference).mean(-1)
        return change

    return effects


def of_elements(effects: Effects, variants: pd.DataFrame, elements: Path) -> pd.DataFrame:
    """Agreement with saturation mutagenesis, for each element of CAGI5."""
    chosen = variants[variants["element"].isin(CAGI5)]
    return satmut(chosen, read_elements(elements), effects, window=LENGTH)


def of_long_sequences(score: Teacher, table: pd.DataFrame) -> float:
    """r with measured sequences longer than a window: the mean over the windows of each."""
    means = [score(genome_windows([sequence], LENGTH, 11))[:, 0].mean() for sequence in table["sequence"]]
    return pearson(np.array(means), table["log2_activity"].to_numpy(dtype=np.float64))


def main(argv: Sequence[str] | None = None) -> None:
    """Train, evaluate and export. Prints the folder of the model and its measures."""
    parser = recipe_parser(__doc__, families=24_000, epochs=1, batch=16, learning_rate=3e-3, weight_decay=0.01, seed=0)
    options = options_of(parser, argv, min_rows=100)
    mpra, kircher = options.data / "human_mpra", options.data / "kircher_satmut"
    elements = kircher / "elements_reference_GRCh38.fa"
    lenti = pd.read_csv(mpra / "k562_valid.tsv.gz", sep="\t").head(options.rows or 1_000_000)
    windows, held_out = human_windows(
        options.data / "genomic_benchmarks",
        options.data / "hg38_chr22_slice" / "hg38_chr22_32000000_32300000.fa.gz",
        elements,
        [alphabet.normalize(each) for each in lenti["sequence"]],
    )
    windows, held_out = windows[: options.rows], held_out[: options.rows]
    network = Dragonn(mpra / "mpra_dragonn.safetensors")
    few = np.random.default_rng(options.seed).permutation(len(windows))[:_USUAL]
    teacher = Contributions(network, windows[few])

    def published(ids: np.ndarray) -> np.ndarray:
        return teach(network, ids)

    unlabelled = labelled(windows, lambda ids: np.zeros((len(ids), len(TARGETS)), np.float32))
    every = pseudo_labelled(unlabelled, teacher.activity, options.families, max_changes=_MAX_CHANGES, seed=options.seed)
    valid = validation(held_out, teacher.activity, options.seed)
    model = begun(network, windows, teacher.centre, options.seed)
    module = PositionDistillation(
        model, teacher=teacher, lengths=(LENGTH, LONGEST), offsets=torch.zeros(1, len(TARGETS)),
        learning_rate=options.learning_rate, weight_decay=options.weight_decay, seed=options.seed, symmetric=True,
    )  # fmt: skip
    facts: dict[str, Any] = {
        **facts_of("crossdna_interpret.training.recipes.human.enhancer", options, model),
        "windows": len(windows), "valid": len(held_out), "taught": len(every),
    }  # fmt: skip
    facts = fit(module, every, valid, options.run / "student", run_options(options), facts)
    facts.pop("valid_signs", None)  # it counts changes above 1, and the teacher's are below 0.4
    module.cpu().recentre(every)
    module.fold()
    model = module.model.eval()

    def student(ids: np.ndarray) -> np.ndarray:
        return scores_of(model, ids)

    scores = student(valid.ids)
    one_place = replace(valid, targets=published(valid.ids))
    facts |= agreement(scores, valid, name_of="valid")
    facts |= agreement(scores, one_place, name_of="published")
    facts |= agreement(valid.targets, one_place, name_of="ceiling")
    facts["r_of_strands"] = pearson(scores[:, 0], student(reverse_complement_ids(valid.ids))[:, 0])
    facts |= {"lenti": len(lenti), "lenti_r": of_long_sequences(student, lenti)}
    facts["lenti_r_teacher"] = of_long_sequences(published, lenti)
    if options.rows is None:
        variants = read_variants(kircher / "elements.tsv.gz")
        own = of_elements(effects_of_model(model), variants, elements)
        reference = of_elements(effects_of(published), variants, elements).set_index("element")["r"]
        facts |= {"kircher_r": own["r"].mean(), "kircher_r_teacher": reference.mean()}
        facts["kircher"] = "\n".join(
            f"| {name} | {r:.2f} ({low:.2f} to {high:.2f}) | {reference[name]:.2f} |"
            for name, r, low, high in zip(own["element"], own["r"], own["low"], own["high"], strict=True)
        )
    reached = must_be_finite(facts, options.run / "student")
    parser.exit(message=exported(model, facts, CARD, options.run / "model", reached))


if __name__ == "__main__":
    keep_freed_memory()
    main()
