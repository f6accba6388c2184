"""Train the bundled model `retina-enhancer` from the retina MPRA table.

    python -m crossdna_interpret.training.recipes.retina.enhancer --data DIR --run DIR

The data are train.tsv.gz and valid.tsv.gz. The same command continues a stopped run from its last checkpoint. At the
end, the model and its card are written to `<run>/model` in the layout of this package.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crossdna_interpret.measured.laboratory import NoPairsError, crx_pairs, scanning
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.training_range import TrainingRange
from crossdna_interpret.motifs.collection import from_database
from crossdna_interpret.statistics import correlation
from crossdna_interpret.training.allocation import keep_freed_memory
from crossdna_interpret.training.finetuning import Finetuning
from crossdna_interpret.training.recipes.retina.distillation import Distillation
from crossdna_interpret.training.recipes.retina.mpra import read_mutation_pairs, read_split
from crossdna_interpret.training.recipes.retina.mutation_pairs import MutationPairs, PairDistillation
from crossdna_interpret.training.recipes.retina.teacher import MotifTeacher
from crossdna_interpret.training.recipes.script import exported, facts_of, options_of, recipe_parser, run_options
from crossdna_interpret.training.run import RunOptions, fit, must_be_finite
from crossdna_interpret.training.tables import Table

TARGET = "log2_activity"
CONFIG = CrossDNAConfig(
    d_model=64, depth=2, block_size=256, comba_heads=2, comba_head_dim=32, attention_heads=4, window_size=256,
    rc_blocks="aligned", dropout=0.1,
)  # fmt: skip
# Libraries 1 to 5 are relative to the basal Rho promoter, 6 and 7 to scrambled sequences. The model uses the first.
BASAL_LIBRARIES = slice(0, 5)
# The second part of the training is short and starts from the result of the first.
_CONTRAST_EPOCHS, _CONTRAST_LEARNING_RATE, _CONTRAST_AVERAGE, _CONTRAST_OF_MEASURED = 1, 7e-4, 0.99, 0.5
CARD = Path(__file__).with_name("card.md")


def export_ready(module: Finetuning) -> CrossDNA:
    """The model, with the mean offset of the basal-normalised libraries added to its bias. Call this only once."""
    module.fold()
    model = module.model.eval()
    assert model.head is not None
    with torch.no_grad():
        model.head.linear.bias.add_(module.offset.weight[BASAL_LIBRARIES].mean())
    return model


def teacher_of(train: Table, folder: Path, seed: int, threads: int) -> MotifTeacher:
    """The teacher from an earlier start of the same run, or a newly fitted one."""
    motifs = from_database("vertebrates")
    made_from = {"rows": len(train), "content": train.content_hash(), "seed": seed}
    teacher = MotifTeacher.load(folder, motifs, made_from)
    if teacher is None:
        teacher = MotifTeacher.fit(train, motifs, seed=seed, threads=threads)
        teacher.save(folder, made_from)
    return teacher


def trained_on_pairs(
    module: Distillation,
    contrasts: MutationPairs,
    train: Table,
    valid: Table,
    folder: Path,
    options: RunOptions,
    facts: dict[str, Any],
) -> tuple[Distillation, dict[str, Any]]:
    """Second part of the training, on the effect of mutations of all CRX sites. Returns the facts of both parts."""
    options = replace(options, epochs=_CONTRAST_EPOCHS, average=_CONTRAST_AVERAGE)
    second = PairDistillation(
        module.model,
        module.teacher,
        train,
        contrasts,
        offsets=module.offset.weight.detach().clone(),
        learning_rate=_CONTRAST_LEARNING_RATE,
        weight_decay=facts["weight_decay"],
        seed=options.seed,
        symmetric=True,
        shift=module.shift,
        of_measured=_CONTRAST_OF_MEASURED,
        of_motifs=0.0,
    )
    second.centred.load_state_dict(module.centred.state_dict())
    before = {f"distilled_{key}": facts[key] for key in ("valid_r_both_strands", "valid_r_both_strands_with_covariate")}
    how = {
        "contrasts": len(contrasts), "contrast_epochs": options.epochs,
        "contrast_learning_rate": _CONTRAST_LEARNING_RATE, "contrast_of_measured": _CONTRAST_OF_MEASURED,
    }  # fmt: skip
    reached = fit(second, train, valid, folder, options, how)
    second.cpu().recentre(train)
    both = {key: facts[key] + reached[key] for key in ("minutes", "steps")}
    return second, {**facts, **before, **reached, **both, "options": facts["options"]}


def measured_on_mutations(model: CrossDNA, data: Path) -> dict[str, float]:
    """Compare with measurements: mean r of scanning mutagenesis for each existing table, and CRX pairs if any.

    Keys:

    - `scanning_valid_r`, `scanning_train_r`;
    - `crx_pairs`, `crx_r`, `crx_low`, `crx_high`, `crx_same_sign`;
    - for pairs with a measured change above 1: `crx_large` (number), `crx_large_same_sign` (fraction with the measured
      sign), `crx_large_fall` (fraction that decreases);
    - for those of them with an enhancer above the promoter alone: `crx_active`, `crx_active_same_sign`,
      `crx_active_fall`.
    """

    @torch.no_grad()
    def scores(seqs: Sequence[str]) -> np.ndarray:
        pieces = [seqs[at : at + 64] for at in range(0, len(seqs), 64)]
        return np.concatenate([model(model.one_hot(piece))[:, 0].numpy() for piece in pieces])

    result: dict[str, float] = {}
    for split in ("valid", "train"):
        if (data / f"scanning_{split}.tsv.gz").is_file():
            result[f"scanning_{split}_r"] = float(scanning(data / f"scanning_{split}.tsv.gz", scores)["r"].mean())
    try:
        pairs = crx_pairs(data / "valid.tsv.gz", scores)
    except NoPairsError:
        return result
    r, low, high = correlation(pairs["predicted"].to_numpy(), pairs["measured"].to_numpy())
    same = np.sign(pairs["predicted"]) == np.sign(pairs["measured"])
    result |= {
        "crx_pairs": len(pairs),
        "crx_r": r,
        "crx_low": low,
        "crx_high": high,
        "crx_same_sign": float(same.mean()),
    }
    large = pairs["measured"].abs() > 1
    for name, chosen in (("large", large), ("active", large & (pairs["activity"] > 0))):
        if chosen.any():
            result[f"crx_{name}"] = int(chosen.sum())
            result[f"crx_{name}_same_sign"] = float(same[chosen].mean())
            result[f"crx_{name}_fall"] = float((pairs["measured"][chosen] < 0).mean())
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Train, evaluate and export. Prints the folder of the model and its measures."""
    parser = recipe_parser(__doc__, epochs=20, batch=32, learning_rate=2e-3, weight_decay=0.05, seed=0)
    options = options_of(parser, argv, min_rows=2)
    train, valid = (read_split(options.data, split) for split in ("train", "valid"))
    if options.rows is not None:
        train, valid = (table.rows(range(min(options.rows, len(table)))) for table in (train, valid))
    overall = float(train.targets.mean())
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        model = CrossDNA(CONFIG, targets=[TARGET])
    model.name = "retina-enhancer"
    model.training_range = TrainingRange.of(train.ids)
    assert model.head is not None
    with torch.no_grad():
        model.head.linear.bias.fill_(overall)
    started = time.monotonic()
    teacher = teacher_of(train, options.run / "teacher", options.seed, options.threads)
    facts_of_teacher = {"teacher_motifs": len(teacher.scan), "teacher_members": len(teacher.members)}
    teaching = (time.monotonic() - started) / 60
    module = Distillation(
        model,
        teacher,
        train,
        offsets=torch.from_numpy(train.level_offsets()),
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        seed=options.seed,
        symmetric=True,
        shift=6,
    )
    facts: dict[str, Any] = {
        **facts_of("crossdna_interpret.training.recipes.retina.enhancer", options, model),
        "train": len(train), "valid": len(valid), **facts_of_teacher,
    }  # fmt: skip
    how = run_options(options)
    facts = fit(module, train, valid, options.run, how, facts)
    facts["teacher_minutes"] = teaching
    must_be_finite(facts, options.run)
    module.cpu().recentre(train)
    try:
        contrasts = read_mutation_pairs(options.data)
    except NoPairsError:
        facts["contrasts"] = 0
    else:
        module, facts = trained_on_pairs(module, contrasts, train, valid, options.run / "contrasts", how, facts)
    facts["valid_r_both_strands_with_library"] = facts.pop("valid_r_both_strands_with_covariate")
    reached = must_be_finite(facts, options.run / "contrasts")
    model = export_ready(module)
    facts |= measured_on_mutations(model, options.data)
    parser.exit(message=exported(model, facts, CARD, options.run / "model", reached))


if __name__ == "__main__":
    keep_freed_memory()
    main()
