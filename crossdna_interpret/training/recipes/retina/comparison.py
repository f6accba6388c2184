"""Comparison of CrossDNA with and without bridge and second strand, a CNN and a regression.

    python -m crossdna_interpret.training.recipes.retina.comparison --data DIR --run DIR

All use the same rows of the retina MPRA. The networks are trained for the same number of epochs, with three seeds
each, and the ridge regression is fitted once. Finished runs
are not repeated, and a stopped run continues. So several processes can share a folder, each with `--only`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from crossdna_interpret.models.crossdna import blocks
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.statistics import pearson
from crossdna_interpret.training.allocation import keep_freed_memory
from crossdna_interpret.training.finetuning import Finetuning
from crossdna_interpret.training.recipes.retina.baselines import KmerRidge, ResidualCNN
from crossdna_interpret.training.recipes.retina.enhancer import CONFIG, TARGET
from crossdna_interpret.training.recipes.retina.mpra import read_split
from crossdna_interpret.training.recipes.script import options_of, recipe_parser
from crossdna_interpret.training.run import RunOptions, fit
from crossdna_interpret.training.settings import keep_settings, require_settings
from crossdna_interpret.training.supervised import Plain, Supervised
from crossdna_interpret.training.tables import Table

__all__ = ["MODELS", "OneStrand", "compare", "main", "table"]

RIDGE = "5-mer ridge"
_RESULT = "result.json"
_LEARNING_RATE, _WEIGHT_DECAY, _SHIFT = 2e-3, 0.05, 6


class OneStrand(CrossDNA):
    """A CrossDNA model that reads only the forward strand: one branch, no bridge and no fusion."""

    def represent(
        self, x_forward: Tensor, x_reverse: Tensor, pairs: Sequence[blocks.BlockPair] | None = None
    ) -> Tensor:
        features, _ = self.stem(x_forward, x_reverse)
        length = x_forward.shape[-1]
        blocks = []
        for pair in self.pairs(length) if pairs is None else pairs:
            at = pair.branch_a
            of_block = self.fusion.project_a(self.branch_a(features[:, at.own_slice(length)], at))
            blocks.append(F.layer_norm(of_block, of_block.shape[-1:], eps=1e-5))
        return torch.cat(blocks, dim=1)


def _crossdna(kind: type[CrossDNA], *, bridge: bool, symmetric: bool) -> Callable[..., Supervised]:
    def make(train: Table, **settings: object) -> Supervised:
        model = kind(replace(CONFIG, use_bridge=bridge), targets=[TARGET])
        assert model.head is not None
        torch.nn.init.constant_(model.head.linear.bias, float(train.targets.mean()))
        if kind is OneStrand:
            for unused in (model.branch_b, model.stem.conv_reverse, model.fusion.project_b, model.fusion.gate):
                unused.requires_grad_(False)
        return Finetuning(model, symmetric=symmetric, **settings)  # type: ignore[arg-type]

    return make


def _network(train: Table, **settings: object) -> Supervised:
    network = ResidualCNN()
    torch.nn.init.constant_(network.linear.bias, float(train.targets.mean()))
    return Plain(network, **settings)


MODELS: dict[str, Callable[..., Supervised]] = {
    "residual CNN": _network,
    "CrossDNA, one strand": _crossdna(OneStrand, bridge=False, symmetric=False),
    "CrossDNA, no bridge": _crossdna(CrossDNA, bridge=False, symmetric=True),
    "CrossDNA": _crossdna(CrossDNA, bridge=True, symmetric=True),
}


def _ridge(train: Table, valid: Table) -> dict[str, float]:
    started = time.monotonic()
    fitted = KmerRidge.fit(train, k=5)
    scores = fitted.predict(list(valid.ids))
    of_library = train.level_offsets()[valid.level, 0]
    return {
        "r": pearson(scores, valid.targets[:, 0]),
        "r_with_library": pearson(scores + of_library, valid.targets[:, 0]),
        "parameters": len(fitted.weights),
        "minutes": (time.monotonic() - started) / 60,
    }


def compare(
    name: str, seed: int, train: Table, valid: Table, folder: Path, *, epochs: int, batch: int, threads: int
) -> dict[str, float]:
    """Train one model with one seed, continue its training, or read its results. Scores are means of both strands.

    Raises:
        ValueError: earlier results are from other rows, epochs or batches.
    """
    settings = {
        "model": name, "epochs": epochs, "batch": batch, "content_train": train.content_hash(),
        "content_valid": valid.content_hash(),
    }  # fmt: skip
    done = folder / _RESULT
    if done.is_file():
        require_settings(folder, settings, progress=_RESULT)
        result: dict[str, float] = json.loads(done.read_text(encoding="utf-8"))
        return result
    if name == RIDGE:
        keep_settings(folder, settings, progress=_RESULT, notes={})
        reached = _ridge(train, valid)
    else:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = MODELS[name](
                train,
                offsets=torch.from_numpy(train.level_offsets()),
                learning_rate=_LEARNING_RATE,
                weight_decay=_WEIGHT_DECAY,
                seed=seed,
                shift=_SHIFT,
            )
        # The statistics of batch normalisation belong to the current weights, not to their average.
        average = 0.0 if name == "residual CNN" else 0.999
        how = RunOptions(epochs=epochs, batch=batch, seed=seed, threads=threads, average=average)
        facts = fit(module, train, valid, folder, how, settings)
        reached = {
            "r": facts["valid_r_both_strands"],
            "r_with_library": facts["valid_r_both_strands_with_covariate"],
            "parameters": sum(
                p.numel() for name, p in module.named_parameters() if p.requires_grad and name.startswith("model.")
            ),
            "minutes": facts["minutes"],
        }
    done.write_text(json.dumps(reached) + "\n", encoding="utf-8")
    return reached


def table(results: pd.DataFrame) -> str:
    """Markdown: mean and standard deviation over seeds for each model, from rows with model, seed, r and so on."""
    lines = ["| | parameters | r | r, with the library's offset | seeds |", "|---|---|---|---|---|"]
    for name, rows in results.groupby("model", sort=False):
        spread = (lambda values: f" ± {values.std():.3f}") if len(rows) > 1 else (lambda values: "")
        cells = [f"{rows[key].mean():.3f}{spread(rows[key])}" for key in ("r", "r_with_library")]
        lines.append(f"| {name} | {int(rows['parameters'].iloc[0]):,} | {cells[0]} | {cells[1]} | {len(rows)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run all unfinished trainings, and print the table of all results."""
    parser = recipe_parser(__doc__, epochs=3, batch=32, seeds=3)
    parser.add_argument("--only", nargs="+", choices=[RIDGE, *MODELS], help="models to train now (default: all)")
    options = options_of(parser, argv, min_rows=2)
    train, valid = (read_split(options.data, split) for split in ("train", "valid"))
    if options.rows is not None:
        train, valid = (part.rows(np.arange(min(options.rows, len(part)))) for part in (train, valid))
    results = []
    for name in [RIDGE, *MODELS]:
        for seed in range(1 if name == RIDGE else options.seeds):
            folder = options.run / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
            if (options.only is None or name in options.only) or (folder / _RESULT).is_file():
                reached = compare(
                    name, seed, train, valid, folder, epochs=options.epochs, batch=options.batch,
                    threads=options.threads,
                )  # fmt: skip
                results.append({"model": name, "seed": seed, **reached})
    measured = pd.DataFrame(results)
    measured.to_csv(options.run / "results.tsv", sep="\t", index=False, float_format="%.6g")
    sys.stdout.write(table(measured) + "\n")
    return 0


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
