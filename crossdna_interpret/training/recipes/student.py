"""The model that learns from teachers, before training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.training_range import TrainingRange
from crossdna_interpret.motifs.collection import Motif
from crossdna_interpret.training.module import channels
from crossdna_interpret.training.recipes.families import Families
from crossdna_interpret.training.recipes.motif_network import informative_motifs, motif_filters

__all__ = ["scores_of", "untrained_student"]


def untrained_student(
    config: CrossDNAConfig, train: Families, motifs: Sequence[Motif], *, name: str, filters: int, seed: int
) -> CrossDNA:
    """A CrossDNA before training. The bias of its head is the mean of each target.

    The first filters of its stem are the motifs that explain the first target best, for both strands.

    Args:
        config: dimensions.
        train: training rows. Their sequences are its training range.
        motifs: candidates.
        name: name of the model.
        filters: number of filters that begin as motifs.
        seed: seed of the other weights.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CrossDNA(config, targets=list(train.target_names))
    model.name = name
    model.training_range = TrainingRange.of(list(train.ids))
    known = ~np.isnan(train.targets[:, 0])
    chosen = informative_motifs(torch.from_numpy(train.ids[known]), train.targets[known, 0], motifs, filters)
    assert model.head is not None
    with torch.no_grad():
        for conv in (model.stem.conv_forward, model.stem.conv_reverse):
            conv.weight[: len(chosen)] = motif_filters(chosen, conv.kernel_size[0], reverse=False)
        model.head.linear.bias.copy_(torch.from_numpy(train.means()))
    return model


def scores_of(model: CrossDNA, ids: np.ndarray) -> np.ndarray:
    """Scores (N, T) of ids (N, L)."""
    with torch.inference_mode():
        parts = torch.from_numpy(ids).split(256)
        result: np.ndarray = torch.cat([model(channels(part, torch.float32)) for part in parts]).numpy()
    return result
