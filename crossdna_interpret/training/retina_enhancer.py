"""Train the bundled model `retina-enhancer` from the retina MPRA table.

    python -m crossdna_interpret.training.retina_enhancer --data DIR --run DIR

A run that was stopped goes on from its last checkpoint when the same command is given again. At the end the model is
written to `<run>/model` in the package's own layout, with its card.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from crossdna_interpret.models.crossdna.checkpoint import save_crossdna
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.training.regression import Regression
from crossdna_interpret.training.retina_mpra import LIBRARIES, MpraTable, read_split

TARGET = "log2_activity"
CONFIG = CrossDNAConfig(
    d_model=64, depth=2, block_size=256, comba_heads=2, comba_head_dim=32, attention_heads=4, window_size=256,
    rc_blocks="aligned", dropout=0.1,
)  # fmt: skip
# Libraries 1 to 5 are relative to the basal Rho promoter, 6 and 7 to scrambled sequences; the first is our scale.
BASAL_LIBRARIES = slice(0, 5)
CARD = Path(__file__).with_name("retina_enhancer_card.md")


def loader(table: MpraTable, batch: int, *, shuffle: bool) -> DataLoader:
    """Batches of a split; in training the last, smaller one is left out."""
    return DataLoader(table, batch_size=batch, shuffle=shuffle, drop_last=shuffle)


def library_means(table: MpraTable) -> Tensor:
    """Mean activity in each library, (libraries,); the overall mean where a library has no row."""
    means = [table.activity[table.library == level] for level in range(len(LIBRARIES))]
    return torch.stack([rows.mean() if len(rows) else table.activity.mean() for rows in means])


def export(module: Regression, folder: Path, card: str, provenance: dict[str, object]) -> Path:
    """Write the model alone, with the mean offset of the basal-normalised libraries moved into its bias."""
    module.cpu().fold()
    model = module.model.eval()
    assert model.head is not None
    with torch.no_grad():
        model.head.linear.bias.add_(module.offset.weight[BASAL_LIBRARIES].mean())
    return save_crossdna(model, folder, card=card, provenance=provenance)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, evaluate and export; prints where the model is and what it reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.tsv.gz and valid.tsv.gz")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints, metrics and the model")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--rows", type=int, default=None, help="use only the first rows, to try the script out")
    options = parser.parse_args(argv)

    torch.set_num_threads(options.threads)
    lightning.seed_everything(options.seed)
    train, valid = (read_split(options.data, split) for split in ("train", "valid"))
    if options.rows is not None:
        train, valid = (MpraTable(t.ids[: options.rows], t.activity[: options.rows], t.weight[: options.rows],
                                  t.library[: options.rows]) for t in (train, valid))  # fmt: skip
    model = CrossDNA(CONFIG, targets=[TARGET])
    model.name = "retina-enhancer"
    assert model.head is not None
    with torch.no_grad():
        model.head.linear.bias.fill_(float(train.activity.mean()))
    module = Regression(
        model,
        offsets=library_means(train) - train.activity.mean(),
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        total_steps=options.epochs * (len(train) // options.batch),
        symmetric=True,
        shift=6,
    )
    last = ModelCheckpoint(options.run, filename="last", every_n_train_steps=200, enable_version_counter=False)
    trainer = lightning.Trainer(
        max_epochs=options.epochs,
        accelerator="auto",
        gradient_clip_val=1.0,
        callbacks=[last, EMAWeightAveraging(decay=0.999)],
        logger=CSVLogger(options.run, name="metrics", version=""),
        log_every_n_steps=50,
        deterministic=True,
    )
    checkpoint = options.run / "last.ckpt"
    started = time.monotonic()
    trainer.fit(
        module,
        loader(train, options.batch, shuffle=True),
        loader(valid, 64, shuffle=False),
        ckpt_path=checkpoint if checkpoint.is_file() else None,
    )
    metrics = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("valid")}
    minutes = (time.monotonic() - started) / 60
    if not all(math.isfinite(value) for value in metrics.values()):
        raise RuntimeError(f"Training gave no usable model: {metrics}. The last checkpoint is {checkpoint}.")
    facts = {
        "command": "python -m crossdna_interpret.training.retina_enhancer --data DIR --run DIR "
        f"--epochs {options.epochs} --batch {options.batch} --learning-rate {options.learning_rate} "
        f"--weight-decay {options.weight_decay} --seed {options.seed} --threads {options.threads}",
        "epochs": options.epochs, "batch": options.batch, "learning_rate": options.learning_rate,
        "weight_decay": options.weight_decay, "seed": options.seed, "threads": options.threads, "minutes": minutes,
        "torch": torch.__version__.split("+")[0], "train": len(train), "valid": len(valid),
        "parameters": sum(p.numel() for p in model.parameters()), **metrics,
    }  # fmt: skip
    folder = export(module, options.run / "model", CARD.read_text(encoding="utf-8").format(**facts), facts)
    parser.exit(message=json.dumps({"model": str(folder), **metrics}, indent=1) + "\n")


if __name__ == "__main__":
    main()
