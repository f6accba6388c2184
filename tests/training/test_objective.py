"""Each term of the pre-training objective against a known answer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from crossdna_interpret.models.crossdna import blocks
from crossdna_interpret.training.objective import (
    fusion_gate_loss,
    fusion_gate_targets,
    masked_bases,
    masked_language_loss,
    reverse_complement_loss,
    semantic_loss,
    update_teacher,
    warmed_up,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Masking


def test_masking_has_the_published_rates() -> None:
    ids = torch.zeros(200, 500, dtype=torch.int64)  # all A, so that a random base shows in three cases of four
    shown, chosen = masked_bases(ids, generator=torch.Generator().manual_seed(0))
    count = chosen.sum().item()

    def near(share: float, expected: float, of: float) -> bool:
        return abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / of)

    assert near(count / ids.numel(), 0.15, ids.numel())
    assert near((shown[chosen] == 4).sum().item() / count, 0.8, count)
    for base in (1, 2, 3):
        assert near((shown[chosen] == base).sum().item() / count, 0.1 / 4, count)
    assert near((shown[chosen] == 0).sum().item() / count, 0.1 + 0.1 / 4, count)
    assert torch.equal(shown[~chosen], ids[~chosen])


def test_an_n_is_not_chosen_and_the_ids_are_not_changed() -> None:
    ids = torch.tensor([[4, 1, 4, 3] * 50], dtype=torch.uint8)
    before = ids.clone()
    shown, chosen = masked_bases(ids, rate=1.0, hidden=1.0)
    assert torch.equal(chosen, ids != 4)
    assert (shown == 4).all()
    assert shown.dtype == torch.uint8
    assert torch.equal(ids, before)


def test_the_same_generator_masks_alike() -> None:
    ids = torch.randint(4, (3, 40), generator=torch.Generator().manual_seed(1))
    one, two = (masked_bases(ids, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[0], masked_bases(ids, generator=torch.Generator().manual_seed(8))[0])


def test_the_language_loss_is_the_surprise_at_chosen_positions_alone() -> None:
    ids = torch.tensor([[0, 1, 2]])
    chosen = torch.tensor([[True, False, True]])
    logits = torch.full((1, 3, 5), -math.inf, dtype=torch.float64)
    logits[0, 0, :4] = 0.0  # four bases alike: log 4
    logits[0, 1, 3] = 0.0  # wrong, but not asked
    logits[0, 2, 2] = 0.0  # certain, and right
    assert masked_language_loss(logits, ids, chosen).item() == pytest.approx(math.log(4) / 2)


def test_with_nothing_chosen_the_language_loss_is_zero_and_differentiable() -> None:
    logits = torch.ones(1, 3, 5, requires_grad=True)
    loss = masked_language_loss(logits, torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


# Semantic preservation


def test_a_student_that_is_its_teacher_has_no_semantic_loss() -> None:
    features = random(2, 7, 3)
    assert semantic_loss(features, features).item() == 0


def test_the_semantic_loss_by_hand() -> None:
    student = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]], dtype=torch.float64)
    teacher = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    squares = 1 / 4  # one number of four is off by one
    differences = 1 / 2  # (-1, 2) against (-1, 1)
    # Gram matrices diag(1, 4) / sqrt(17) and diag(1, 1) / sqrt(2)
    grams = ((1 / 17**0.5 - 1 / 2**0.5) ** 2 + (4 / 17**0.5 - 1 / 2**0.5) ** 2) / 4
    assert semantic_loss(student, teacher).item() == pytest.approx(squares + 0.5 * differences + 0.2 * grams)


def test_a_common_shift_costs_no_differences_and_a_common_scale_no_gram() -> None:
    features = random(1, 5, 3)
    gram = features @ features.mT
    shifted = semantic_loss(features + 2.0, features).item()
    other = (features + 2.0) @ (features + 2.0).mT
    of_gram = (other / other.norm() - gram / gram.norm()).square().mean().item()
    assert shifted == pytest.approx(4.0 + 0.2 * of_gram)
    doubled = semantic_loss(2 * features, features).item()
    assert doubled == pytest.approx(features.square().mean().item() + 0.5 * features.diff(dim=1).square().mean().item())


def test_the_teacher_gets_no_gradient_and_one_position_is_enough() -> None:
    student, teacher = random(1, 1, 3).requires_grad_(), random(1, 1, 3, seed=1).requires_grad_()
    semantic_loss(student, teacher).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_features_of_zeros_have_a_finite_loss() -> None:
    assert semantic_loss(torch.zeros(1, 3, 2), torch.zeros(1, 3, 2)).item() == 0


def test_the_teacher_is_the_stated_average() -> None:
    teacher, student = nn.Linear(2, 3).double(), nn.Linear(2, 3).double()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    kept = {name: value.clone() for name, value in student.state_dict().items()}
    update_teacher(teacher, student, decay=0.9)
    for name, value in teacher.state_dict().items():
        torch.testing.assert_close(value, 0.9 * before[name] + 0.1 * kept[name], rtol=0, atol=1e-15)
        assert torch.equal(student.state_dict()[name], kept[name])


def test_a_teacher_of_another_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"differ in .*bias"):
        update_teacher(nn.Linear(2, 3), nn.Linear(2, 3, bias=False))


@pytest.mark.parametrize(("step", "weight"), [(0, 0.0), (2500, 0.03), (10_000, 0.12), (99_999, 0.12)])
def test_the_semantic_weight_warms_up(step: int, weight: float) -> None:
    assert warmed_up(step) == pytest.approx(weight)


# The fusion gate


@pytest.mark.parametrize("rc_blocks", ["aligned", "mirrored"])
def test_the_target_of_the_gate_is_the_other_branch_in_odd_blocks(rc_blocks: blocks.RcBlocks) -> None:
    pairs = blocks.block_pairs(10, 4, rc_blocks)
    assert fusion_gate_targets(pairs, torch.zeros(1)).tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 1, 1]


def test_the_gate_loss_by_hand() -> None:
    pairs = blocks.block_pairs(4, 2, "aligned")
    undecided = torch.zeros(3, 4, 5, dtype=torch.float64)
    assert fusion_gate_loss(undecided, pairs).item() == pytest.approx(math.log(2))
    right = torch.tensor([50.0, 50.0, -50.0, -50.0], dtype=torch.float64)[None, :, None].expand(3, 4, 5)
    assert fusion_gate_loss(right, pairs).item() == pytest.approx(0, abs=1e-12)
    assert fusion_gate_loss(-right, pairs).item() == pytest.approx(50)


# Both strands alike


def test_a_model_that_reads_both_strands_alike_has_no_loss() -> None:
    logits = random(2, 6, 5)
    mirrored = logits.flip(1)[..., [3, 2, 1, 0, 4]]
    assert reverse_complement_loss(logits, mirrored).item() == pytest.approx(0, abs=1e-12)


def test_the_complement_is_the_true_one() -> None:
    certain = 60 * torch.eye(5, dtype=torch.float64)
    for base, partner in ((0, 3), (1, 2), (2, 1), (3, 0), (4, 4)):
        losses = [reverse_complement_loss(certain[base].view(1, 1, 5), certain[x].view(1, 1, 5)) for x in range(5)]
        for x, loss in enumerate(losses):
            assert loss.item() == pytest.approx(0 if x == partner else math.log(2), abs=1e-9)


def test_the_order_of_positions_is_turned() -> None:
    certain = 60 * torch.eye(5, dtype=torch.float64)
    first, second = certain[[0, 1]].unsqueeze(0), certain[[2, 3]].unsqueeze(0)  # AC, whose reverse complement is GT
    assert reverse_complement_loss(first, second).item() == pytest.approx(0, abs=1e-9)
    assert reverse_complement_loss(first, second.flip(1)).item() == pytest.approx(math.log(2), abs=1e-9)
