"""Pre-training on unlabelled sequences with the published objective: a Lightning module around a `CrossDNA`.

N  sequences    L  positions    H  channels
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crossdna_interpret.dna import strand
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.hooks import Activations, capture
from crossdna_interpret.training.module import SeededModule, channels, decayed, require_seed
from crossdna_interpret.training.objective import (
    EMA_DECAY,
    SEMANTIC_WEIGHT,
    fusion_gate_loss,
    masked_bases,
    masked_language_loss,
    reverse_complement_loss,
    semantic_loss,
    update_teacher,
    warmed_up,
)

__all__ = ["Objective", "Pretraining"]

_VALIDATION_SEED = 1  # seed of the masks, so that all epochs are validated on the same masks


@dataclass(frozen=True)
class Objective:
    """Weights of the terms. The defaults are the published ones.

    Attributes:
        semantic: weight of the distance between each branch and its teacher, after the warm-up.
        warm_up: optimizer steps of the warm-up.
        gate: weight of the supervised fusion gate, after its freeze.
        reverse_complement: weight of the consistency of both orientations. It needs a second pass. 0 disables it.
        decay: decay of the teacher's exponential moving average.
    """

    semantic: float = SEMANTIC_WEIGHT
    warm_up: int = 10_000
    gate: float = 0.02
    reverse_complement: float = 0.0
    decay: float = EMA_DECAY

    def __post_init__(self) -> None:
        for name in ("semantic", "warm_up", "gate", "reverse_complement"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be at least 0, but is {getattr(self, name)}.")
        if not 0 <= self.decay < 1:
            raise ValueError(f"`decay` must be from 0 to less than 1, but is {self.decay}.")


class Pretraining(SeededModule):
    """Masked bases, semantic preservation, and the supervised fusion gate.

    The model predicts masked bases of windows. Its branch features after the bridge are kept close to those of a
    teacher. The teacher is a moving average of the model and sees the windows without masks. The fusion gate learns
    which branch reads the forward strand. This starts after the steps for which the configuration fixes the gate at one
    half. The orientation of each window is random.

    Args:
        model: a model without a head.
        objective: weights of the terms.
        learning_rate: initial learning rate. It falls to zero by a cosine schedule.
        weight_decay: weight decay of AdamW, on matrices only.
        seed: seed of masks, dropout and orientation.

    Raises:
        ValueError: the model has a head, or the seed is out of range.
    """

    measures = ("valid_accuracy",)

    def __init__(
        self,
        model: CrossDNA,
        *,
        objective: Objective | None = None,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if model.head is not None:
            raise ValueError(f"`model` must have no head, but it has one for {', '.join(model.targets)}.")
        self.model = model
        self.teacher = copy.deepcopy(model).requires_grad_(False).eval()
        self.objective = objective or Objective()
        self.learning_rate, self.weight_decay, self.seed = learning_rate, weight_decay, require_seed(seed)
        side = "bridge.out_{}" if model.bridge is not None else "branch_{}.out"
        self._features = [side.format(branch) for branch in "ab"]

    def train(self, mode: bool = True) -> Pretraining:
        super().train(mode)
        self.teacher.eval()
        return self

    def weights(self) -> dict[str, float]:
        """Weight of each term at this step."""
        step, objective = int(self.model.fusion.steps), self.objective
        return {
            "masked": 1.0,
            "semantic": warmed_up(step, steps=objective.warm_up, peak=objective.semantic),
            "gate": objective.gate if step >= self.model.config.gate_freeze_steps else 0.0,
            "reverse_complement": objective.reverse_complement,
        }

    def terms(self, ids: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Each term of the objective for windows (N, L), without its weight. Terms with weight 0 are left out."""
        weights = self.weights()
        shown, chosen = masked_bases(ids, generator=generator)
        logits, seen = self._read(self.model, shown)
        terms = {"masked": masked_language_loss(logits, ids, chosen)}
        if weights["semantic"]:
            with torch.no_grad():
                _, whole = self._read(self.teacher, ids)
            terms["semantic"] = torch.stack(
                [semantic_loss(_joined(seen, name), _joined(whole, name)) for name in self._features]
            ).sum()
        if weights["gate"]:
            pairs = self.model.pairs(ids.shape[1])
            gate = _joined(seen, "fusion.gate_logits") / self.model.config.gate_temp
            terms["gate"] = fusion_gate_loss(gate, pairs)
        if weights["reverse_complement"]:
            reverse, _ = self._read(self.model, strand.reverse_complement(shown))
            terms["reverse_complement"] = reverse_complement_loss(logits, reverse)
        return terms

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:
        reverse = torch.rand(len(batch), 1, device=batch.device) < 0.5
        terms = self.terms(torch.where(reverse, strand.reverse_complement_ids(batch), batch))
        weights = self.weights()
        loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        self.log_dict({f"train_{name}": term.detach() for name, term in terms.items()})
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Do the step, then update the teacher and the gate's step counter, before a checkpoint is saved."""
        super().optimizer_step(*args, **kwargs)
        update_teacher(self.teacher, self.model, self.objective.decay)
        self.model.fusion.steps += 1

    def on_validation_epoch_start(self) -> None:
        self._masks = torch.Generator().manual_seed(_VALIDATION_SEED)
        self._sums = torch.zeros(3, dtype=torch.float64)

    def validation_step(self, batch: Tensor, batch_index: int) -> None:
        shown, chosen = masked_bases(batch.cpu(), generator=self._masks)
        logits, _ = self._read(self.model, shown.to(batch.device))
        count = int(chosen.sum())
        loss = masked_language_loss(logits, batch, chosen.to(batch.device))
        right = (logits[..., :4].argmax(-1) == batch).cpu()[chosen].sum()
        self._sums += torch.tensor([float(loss) * count, float(right), count], dtype=torch.float64)

    def on_validation_epoch_end(self) -> None:
        loss, right, count = self._sums.tolist()
        masked, accuracy = (loss / count, right / count) if count else (math.nan, math.nan)  # nothing was masked
        self.log_dict({"valid_masked": masked, "valid_accuracy": accuracy}, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(decayed(self.model, self.weight_decay), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _read(self, model: CrossDNA, ids: Tensor) -> tuple[Tensor, Activations]:
        """Logits (N, L, 5) over ACGTN, and the activations that the terms need."""
        x = channels(ids, model.dtype)
        with capture(model, "fusion.gate_logits", *self._features) as seen:
            fused = model.represent(x, strand.reverse_complement(x))
        return model.lm_head(fused), seen


def _joined(seen: Activations, name: str) -> Tensor:
    """Join the values of all blocks: (N, L, H)."""
    return torch.cat([activation.value for activation in seen[name]], dim=1)
