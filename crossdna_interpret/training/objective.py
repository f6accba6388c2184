"""The published pre-training objective, term by term, as functions of tensors.

Source: the description of CrossDNA's pre-training (Nature Machine Intelligence, 2026). If the description is not
complete, the docstring states the choice made here.

    N  sequences    L  positions    H  channels
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.models.crossdna import blocks

__all__ = [
    "EMA_DECAY",
    "SEMANTIC_WEIGHT",
    "fusion_gate_loss",
    "fusion_gate_targets",
    "masked_bases",
    "masked_language_loss",
    "reverse_complement_loss",
    "semantic_loss",
    "update_teacher",
    "warmed_up",
]

EMA_DECAY = 0.999
SEMANTIC_WEIGHT = 0.12


def masked_bases(
    ids: Tensor,
    *,
    rate: float = 0.15,
    hidden: float = 0.8,
    replaced: float = 0.1,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose positions to predict, and mask most of them.

    Args:
        ids: (N, L), A=0 C=1 G=2 T=3 N=4. An N is never chosen.
        rate: probability that a base is chosen, independently for each base.
        hidden: fraction of the chosen bases that become N.
        replaced: fraction of the chosen bases that become a random base, which may be the same base.
        generator: random number generator. The default is the global one.

    Returns:
        The ids (N, L) for the model, and a mask (N, L) of the positions to predict.
    """
    chance = torch.rand(ids.shape, generator=generator, device=ids.device)
    chosen = (chance < rate) & (ids != alphabet.N_ID)
    fate = torch.rand(ids.shape, generator=generator, device=ids.device)
    random = torch.randint(4, ids.shape, generator=generator, device=ids.device, dtype=ids.dtype)
    shown = torch.where(chosen & (fate < hidden), torch.full_like(ids, alphabet.N_ID), ids)
    shown = torch.where(chosen & (fate >= hidden) & (fate < hidden + replaced), random, shown)
    return shown, chosen


def masked_language_loss(logits: Tensor, ids: Tensor, chosen: Tensor) -> Tensor:
    """Mean cross-entropy, in nats, of logits (N, L, 5) over ACGTN at the chosen positions. Zero without positions."""
    if not chosen.any():
        return logits.sum() * 0
    return F.cross_entropy(logits[chosen], ids[chosen].long())


def semantic_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Distance between features (N, L, H) of a student and a teacher. The teacher gets no gradient.

    It is the sum of three mean squared errors: of the features (weight 1), of first differences along the sequence
    (weight 1/2), and of Gram matrices ``F F^T`` (N, L, L) of the positions (weight 1/5). Each Gram matrix is divided by
    its Frobenius norm.
    """
    teacher = teacher.detach()
    loss = F.mse_loss(student, teacher)
    if student.shape[1] > 1:
        loss = loss + 0.5 * F.mse_loss(student.diff(dim=1), teacher.diff(dim=1))
    return loss + 0.2 * F.mse_loss(_gram(student), _gram(teacher))


def _gram(features: Tensor) -> Tensor:
    gram = features @ features.mT
    return gram / torch.linalg.matrix_norm(gram, keepdim=True).clamp(min=torch.finfo(gram.dtype).tiny)


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, decay: float = EMA_DECAY) -> None:
    """Exponential moving average: teacher <- decay teacher + (1 - decay) student, parameter by parameter.

    Raises:
        ValueError: the two have different parameters.
    """
    mine, theirs = dict(teacher.named_parameters()), dict(student.named_parameters())
    if mine.keys() != theirs.keys():
        raise ValueError(f"`teacher` and `student` differ in {sorted(mine.keys() ^ theirs.keys())[:5]}.")
    for name, parameter in mine.items():
        parameter.mul_(decay).add_(theirs[name], alpha=1 - decay)


def warmed_up(step: int, *, steps: int = 10_000, peak: float = SEMANTIC_WEIGHT) -> float:
    """Weight of the semantic loss at an optimizer step: it increases linearly from 0 to `peak` over `steps`."""
    return peak * min(1.0, step / steps) if steps else peak


def fusion_gate_targets(pairs: Sequence[blocks.BlockPair], like: Tensor) -> Tensor:
    """Target (L,) of the fusion gate at each position: 1 where branch A reads the forward strand, otherwise 0."""
    parts = [like.new_full((pair.forward.end - pair.forward.start,), float(pair.a_is_forward)) for pair in pairs]
    return torch.cat(parts)


def fusion_gate_loss(logits: Tensor, pairs: Sequence[blocks.BlockPair]) -> Tensor:
    """Mean binary cross-entropy, in nats, of the fusion gate's logits (N, L, H), divided by its temperature."""
    targets = fusion_gate_targets(pairs, logits).unsqueeze(-1).expand_as(logits)
    return F.binary_cross_entropy_with_logits(logits, targets)


def reverse_complement_loss(logits: Tensor, of_reverse_complement: Tensor) -> Tensor:
    """Distance between logits (N, L, 5) over ACGTN and those for the reverse complement, mapped to the same bases.

    It is the mean over positions of the Jensen-Shannon divergence, in nats. It is zero for a model that treats both
    strands equally. The complement is A with T and C with G.
    """
    reverse = strand.reverse_complement(of_reverse_complement, channel_axis=-1)
    p, q = logits.log_softmax(-1), reverse.log_softmax(-1)
    middle = torch.logaddexp(p, q) - torch.log(torch.tensor(2.0, dtype=p.dtype, device=p.device))
    halves = [F.kl_div(middle, x, reduction="none", log_target=True).sum(-1).mean() for x in (p, q)]
    return (halves[0] + halves[1]) / 2
