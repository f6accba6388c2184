"""Training works: a model memorises 200 sequences, and the README recipe learns from a table of 500 rows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import crossdna_interpret as cdi
from crossdna_interpret.dna import alphabet
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.training.commands import main
from crossdna_interpret.training.finetuning import Finetuning
from crossdna_interpret.training.run import RunOptions, fit
from crossdna_interpret.training.tables import Table

# Lightning has much to say about small data.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_two_hundred_sequences_are_learned_by_heart(tmp_path: Path, make_initialised: Callable[..., CrossDNA]) -> None:
    random = np.random.default_rng(0)
    ids = [random.integers(0, 4, 20).astype(np.uint8) for _ in range(200)]
    activity = random.normal(size=(200, 1)).astype(np.float32)  # which nothing but heart can learn
    rows = Table(ids, activity, np.ones(200, np.float32), np.zeros(200, np.int64), ("y",))
    model = make_initialised(
        ["y"], d_model=64, block_size=20, comba_heads=2, comba_head_dim=32, attention_heads=4, window_size=20
    )
    module = Finetuning(model, offsets=torch.zeros(1, 1), learning_rate=8e-3, weight_decay=0.0, symmetric=True)
    fit(module, rows, None, tmp_path, RunOptions(epochs=200, batch=25, average=0, threads=1), {})
    module.recentre(rows)
    module.fold()
    left = cdi.predict([alphabet.decode(each) for each in ids], model.eval()) - activity
    assert np.square(left).mean() < 0.01 * activity.var()


def recipe() -> list[str]:
    """The command of the README, from its first word after `train`."""
    readme = (Path(__file__).parents[2] / "tutorials/docs/pages/train.md").read_text(encoding="utf-8")
    result = re.search(r"crossdna-interpret train (finetune .*?)\n```", readme, re.DOTALL)
    assert result
    return shlex.split(result[1].replace("\\\n", " "))


def test_the_recipe_of_the_readme_learns_from_500_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    rows = []
    for number in range(500):
        bases = random.choice(list("ACGT"), 120)
        sites = int(random.integers(0, 4))
        for site in range(sites):
            at = 30 * site + int(random.integers(0, 20))
            bases[at : at + 8] = list("GATTAGCC" if random.random() < 0.5 else "GGCTAATC")
        split = "valid" if number % 5 == 0 else "train"
        rows.append(("".join(bases), sites + 0.3 * random.normal(), split))
    pd.DataFrame(rows, columns=["sequence", "activity", "split"]).to_csv(tmp_path / "table.tsv", sep="\t", index=False)
    monkeypatch.chdir(tmp_path)
    assert main(recipe()) == 0
    model = cdi.load_model(tmp_path / "my-model" / "model")
    valid = [(seq, activity) for seq, activity, split in rows if split == "valid"]
    scores = cdi.predict([seq for seq, _ in valid], model)[:, 0]
    assert np.corrcoef(scores, [activity for _, activity in valid])[0, 1] > 0.6
