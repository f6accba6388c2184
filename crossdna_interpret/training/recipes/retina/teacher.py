"""The teacher: boosted trees on motif features.

N  sequences    L  positions    M  motifs    F  features of a motif
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import torch
from torch import Tensor

from crossdna_interpret.dna import strand
from crossdna_interpret.motifs.collection import Motif
from crossdna_interpret.training.batches import Batches
from crossdna_interpret.training.recipes.motif_scan import MotifScan, composition
from crossdna_interpret.training.tables import Table

__all__ = ["MotifTeacher"]

_TREES = {
    "objective": "regression", "learning_rate": 0.03, "num_leaves": 8, "feature_fraction": 0.05,
    "bagging_fraction": 0.6, "bagging_freq": 1, "min_data_in_leaf": 40, "lambda_l2": 10.0, "max_bin": 63,
    "deterministic": True, "force_row_wise": True, "verbose": -1,
}  # fmt: skip
_KEPT = "motifs.json"
_LAST_SEED = 2**31 - 1


class MotifTeacher:
    """Mean of several boosted ensembles of small trees, each fitted to motif features with its own seed.

    The features include motif positions, so that effects of the distance from the promoter are not attributed to other
    features. A student that scores both orientations equally cannot learn such effects. So a prediction is the mean
    over both orientations.

    Args:
        scan: the motifs.
        members: fitted ensembles.
    """

    def __init__(self, scan: MotifScan, members: Sequence[lightgbm.Booster]) -> None:
        self.scan = scan
        self.members = list(members)

    @classmethod
    def fit(
        cls,
        table: Table,
        motifs: Sequence[Motif],
        *,
        keep: int = 200,
        members: int = 4,
        rounds: int = 2000,
        seed: int = 0,
        threads: int = 1,
    ) -> MotifTeacher:
        """Fit the first target of rows of one length, minus the offset of their covariate's level, with weights.

        Args:
            table: the rows.
            motifs: all candidate motifs.
            keep: number of motifs for the members. A first ensemble with all motifs selects those that reduce the loss
                most.
            members, rounds: number of ensembles, and of trees in each.
            seed: seed of the first ensemble. The others have the following numbers.
            threads: CPU threads.

        Raises:
            ValueError: rows of several lengths, or a seed outside the range of LightGBM.
        """
        if not 0 <= seed <= _LAST_SEED - members:
            raise ValueError(f"`seed` must be from 0 to {_LAST_SEED - members:,}, but is {seed}.")
        if len(np.unique(table.lengths)) > 1:
            raise ValueError(f"`table` must have sequences of one length, but has {np.unique(table.lengths)[:5]}.")
        y = table.targets[:, 0] - table.level_offsets()[table.level, 0]
        everything = MotifScan(motifs)
        seen = np.concatenate([everything.totals(ids).flatten(1).numpy() for ids in _pieces(table)])
        gain = _fitted(seen, y, table.weight, rounds, seed, threads).feature_importance("gain")
        first = np.argsort(-gain.reshape(len(motifs), 2).sum(1), kind="stable")[:keep]
        scan = MotifScan([motifs[at] for at in first])
        seen = np.concatenate([_columns(scan.features(ids), ids) for ids in _pieces(table)])
        return cls(scan, [_fitted(seen, y, table.weight, rounds, seed + i, threads) for i in range(members)])

    def __call__(self, ids: Tensor, features: Tensor | None = None) -> Tensor:
        """Scores (N,) of ids (N, L), the mean of both orientations. `features` (N, M, F) saves their computation."""
        features = self.scan.features(ids) if features is None else features
        forward = _columns(features, ids)
        reverse = _columns(self.scan.of_reverse(features, ids.shape[1]), strand.reverse_complement_ids(ids))
        both = np.concatenate([forward, reverse])
        scores = np.mean([member.predict(both, num_threads=1) for member in self.members], axis=0)
        return torch.from_numpy(scores).float().view(2, len(ids)).mean(0)

    def save(self, folder: str | Path, made_from: Mapping[str, Any]) -> None:
        """Write the members, their motifs and `made_from` to a folder. It is created if it does not exist."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for number, member in enumerate(self.members):
            member.save_model(folder / f"{number}.txt")
        known = {
            "made_from": {**made_from, "trees": _TREES}, "members": len(self.members),
            "motifs": [motif.id for motif in self.scan.motifs],
        }  # fmt: skip
        (folder / _KEPT).write_text(json.dumps(known) + "\n", encoding="utf-8")  # last, to mark a complete folder

    @classmethod
    def load(cls, folder: str | Path, motifs: Sequence[Motif], made_from: Mapping[str, Any]) -> MotifTeacher | None:
        """Load the teacher from `save`. None if there is none with the same `made_from`."""
        folder = Path(folder)
        if not (folder / _KEPT).is_file():
            return None
        known = json.loads((folder / _KEPT).read_text(encoding="utf-8"))
        if known["made_from"] != {**made_from, "trees": _TREES}:
            return None
        by_id = {motif.id: motif for motif in motifs}
        scan = MotifScan([by_id[each] for each in known["motifs"]])
        return cls(scan, [lightgbm.Booster(model_file=folder / f"{i}.txt") for i in range(known["members"])])


def _pieces(table: Table) -> list[Tensor]:
    return [ids for ids, *_ in Batches(table, 64, seed=None)]


def _columns(features: Tensor, ids: Tensor) -> np.ndarray:
    columns: np.ndarray = torch.cat([features.flatten(1), composition(ids)], dim=1).numpy()
    return columns


def _fitted(x: np.ndarray, y: np.ndarray, weight: np.ndarray, rounds: int, seed: int, threads: int) -> lightgbm.Booster:
    settings = {**_TREES, "seed": seed, "num_threads": threads}
    return lightgbm.train(settings, lightgbm.Dataset(x, y, weight=weight, params=settings), rounds)
