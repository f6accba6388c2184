"""CrossDNA as a whole: its strand symmetry, what it accepts, and how it is differentiated."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import crossdna_interpret as cdi
from crossdna_interpret.dna.strand import reverse_complement
from crossdna_interpret.models.crossdna import memory
from crossdna_interpret.models.crossdna.attention import _kept_table
from crossdna_interpret.models.crossdna.comba import Comba
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import LOG_LIKELIHOOD, CrossDNA
from crossdna_interpret.models.crossdna.native.compiling import find_compiler
from crossdna_interpret.models.crossdna.strand_symmetry import swap_strands
from crossdna_interpret.models.hooks import capture
from crossdna_interpret.models.registry import load_model
from tests.models.offers import accelerated

Make = Callable[..., CrossDNA]
MakeSequence = Callable[..., str]

BLOCK = 24
LENGTHS = [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 1]


# The strand symmetry


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("targets", [("one", "two"), ()])
@pytest.mark.parametrize(
    "changes", [{}, {"use_bridge": False}, {"rc_blocks": "mirrored"}, {"gate_freeze_steps": 1}], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_reverse_complement_is_the_model_with_its_strands_swapped(
    make_model: Make, make_sequence: MakeSequence, seed: int, targets: tuple[str, ...], changes: dict[str, object],
    dtype: torch.dtype,
) -> None:  # fmt: skip
    model = make_model(targets=targets, seed=seed, **changes).to(dtype)
    swapped = swap_strands(model)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    for length in (1, 9, BLOCK):
        seq = make_sequence(length, seed, n_at=(0, length // 2) if length > 1 else ())
        x = model.one_hot([seq, make_sequence(length, seed + 10)])
        torch.testing.assert_close(model(reverse_complement(x)), swapped(x), rtol=0, atol=tolerance)
    if dtype == torch.float64:  # the symmetry is not there to begin with
        assert (model(reverse_complement(x)) - model(x)).abs().min() > 1e-6


@pytest.mark.parametrize("seed", [0, 1])
def test_swapped_strands_mirror_positions_and_complement_logits(
    make_model: Make, make_sequence: MakeSequence, seed: int
) -> None:
    model = make_model(targets=(), seed=seed).double()
    swapped = swap_strands(model)
    seq = make_sequence(BLOCK, seed, n_at=(3, 20))
    there = reverse_complement(seq)
    torch.testing.assert_close(model.embed(there).flip(1), swapped.embed(seq), rtol=0, atol=1e-12)
    logits = model.token_logits(there)
    mirrored = reverse_complement(logits, channel_axis=-1)
    torch.testing.assert_close(mirrored, swapped.token_logits(seq), rtol=0, atol=1e-12)


def test_swapping_exchanges_the_branches_activations(make_model: Make, make_sequence: MakeSequence) -> None:
    model = make_model().double()
    swapped = swap_strands(model)
    seq = make_sequence(BLOCK)
    with capture(model, "branch_*.out") as there:
        model.embed(reverse_complement(seq))
    with capture(swapped, "branch_*.out") as here:
        swapped.embed(seq)
    for side, other in ("ab", "ba"):
        torch.testing.assert_close(
            there[f"branch_{side}.out"][0].value, here[f"branch_{other}.out"][0].value, rtol=0, atol=1e-12
        )


def test_swapping_twice_gives_the_model_back(make_model: Make) -> None:
    model = make_model(targets=())
    again = swap_strands(swap_strands(model)).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())


def test_swapping_leaves_the_model_alone(make_model: Make) -> None:
    model = make_model()
    before = copy.deepcopy(model.state_dict())
    swapped = swap_strands(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    swapped.stem.conv_forward.weight.zero_()
    assert torch.equal(model.stem.conv_forward.weight, before["stem.conv_forward.weight"])
    assert not torch.equal(model.stem.conv_reverse.weight, before["stem.conv_forward.weight"])


def test_with_two_blocks_the_symmetry_is_not_exact(make_model: Make, make_sequence: MakeSequence) -> None:
    model = make_model().double()
    x = model.one_hot(make_sequence(2 * BLOCK))
    assert (model(reverse_complement(x)) - swap_strands(model)(x)).abs().max() > 1e-6


@pytest.mark.parametrize("length", LENGTHS)
def test_the_pairings_are_one_function_for_one_block_only(
    make_model: Make, make_sequence: MakeSequence, length: int
) -> None:
    aligned, mirrored = make_model(rc_blocks="aligned"), make_model(rc_blocks="mirrored")
    seq = make_sequence(length)
    assert torch.equal(aligned.embed(seq), mirrored.embed(seq)) is (length <= BLOCK)


# Blocks that are computed as one batch


@pytest.mark.parametrize("targets", [("one", "two"), ()])
@pytest.mark.parametrize("rc_blocks", ["aligned", "mirrored"])
@pytest.mark.parametrize("length", [2 * BLOCK, 5 * BLOCK, 7 * BLOCK + 5])
def test_blocks_together_give_what_each_gives_alone(
    make_model: Make, make_sequence: MakeSequence, length: int, rc_blocks: str, targets: tuple[str, ...]
) -> None:
    model = make_model(targets=targets, rc_blocks=rc_blocks).double()
    x = model.one_hot([make_sequence(length, 1), make_sequence(length, 2)]).requires_grad_()
    together = model(x)
    with capture(model, "fusion.out") as seen:
        alone = model(x)
    assert [activation.where.start for activation in seen["fusion.out"]] == list(range(0, length, BLOCK))
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-13)
    gradients = [torch.autograd.grad(scores.sum(), x)[0] for scores in (together, alone)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("n", "passes"), [(1, 3), (2, 3), (1 + memory.POSITIONS_TOGETHER // BLOCK, 9)])
def test_as_many_blocks_are_one_batch_as_the_caches_hold(
    make_model: Make, n: int, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()  # even and odd blocks, which branch A reads off either strand, and a short one at the end
    sizes = []
    forward = model.branch_a.forward
    monkeypatch.setattr(model.branch_a, "forward", lambda x, at: sizes.append(x.shape[:2]) or forward(x, at))
    with torch.no_grad():
        model(torch.zeros(n, 5, 8 * BLOCK + 1))
    assert len(sizes) == passes
    assert sum(rows * length for rows, length in sizes) == n * (8 * BLOCK + 1)


@pytest.mark.slow
@pytest.mark.parametrize("gradients", [True, False])
def test_an_exported_model_takes_any_number_of_sequences(
    make_model: Make, make_sequence: MakeSequence, gradients: bool
) -> None:
    model = make_model().double().requires_grad_(False)
    two, many = (model.one_hot([make_sequence(3 * BLOCK, seed) for seed in range(n)]) for n in (2, 80))
    _kept_table.cache_clear()  # what is made while a graph is captured must not be kept for others
    with torch.set_grad_enabled(gradients):
        exported = torch.export.export(model, (two,), dynamic_shapes=({0: torch.export.Dim.AUTO},), strict=False)
    torch.testing.assert_close(exported.module()(many), model(many), rtol=0, atol=1e-13)


# Shapes and lengths


@pytest.mark.parametrize("targets", [("one", "two"), ()])
@pytest.mark.parametrize("rc_blocks", ["aligned", "mirrored"])
@pytest.mark.parametrize("length", LENGTHS)
def test_every_length_runs_and_rows_do_not_mix(
    make_model: Make, make_sequence: MakeSequence, length: int, rc_blocks: str, targets: tuple[str, ...]
) -> None:
    model = make_model(targets=targets, rc_blocks=rc_blocks).double()
    seqs = [make_sequence(length, 1), "N" * length, make_sequence(length, 2)]
    scores = model(model.one_hot(seqs))
    assert scores.shape == (3, len(model.targets))
    assert scores.isfinite().all()
    for row, seq in enumerate(seqs):
        torch.testing.assert_close(model(model.one_hot(seq))[0], scores[row], rtol=0, atol=1e-13)
    assert model.embed(seqs).shape == (3, length, model.config.d_model)
    assert model.token_logits(seqs).shape == (3, length, 5)


@pytest.mark.parametrize(
    "shape", [(5, 30), (1, 4, 30), (1, 30, 5), (1, 6, 30), (1, 5, 0), (1, 1, 5, 30), (30,)], ids=str
)
def test_forward_refuses_other_shapes(model: CrossDNA, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        model(torch.zeros(shape))
    assert "`x` must be channels of shape (N, 5, L), in the order ACGTN" in str(caught.value)
    assert str(shape) in str(caught.value)


def test_strings_must_be_of_equal_length(model: CrossDNA) -> None:
    for method in (model.one_hot, model.embed, model.token_logits):
        with pytest.raises(ValueError, match=r"`seqs` must be of equal length, but got lengths \[3, 4\]"):
            method(["ACGT", "ACG"])
        with pytest.raises(ValueError, match=r"`seqs\[1\]` has 'X' at position 2"):
            method(["ACG", "ACX"])


def test_one_hot_is_in_the_order_acgtn_and_normalises(model: CrossDNA) -> None:
    x = model.one_hot(["acgun", "NNAAC"])
    assert x.shape == (2, 5, 5)
    assert torch.equal(x[0], torch.eye(5))
    assert x[1].argmax(0).tolist() == [4, 4, 0, 0, 1]
    assert torch.equal(model.one_hot("ACGTN"), x[:1])


def test_dtype_and_device_follow_the_weights(make_model: Make) -> None:
    model = make_model()
    assert model.dtype == torch.float32
    assert model.device == torch.device("cpu")
    model.double()
    assert model.dtype == torch.float64
    assert model.one_hot("ACG").dtype == torch.float64
    assert model(model.one_hot("ACG")).dtype == torch.float64
    assert model.embed("ACG").dtype == model.token_logits("ACG").dtype == torch.float64
    model.to("meta")
    assert model.device == torch.device("meta")


def test_float32_is_near_float64(make_model: Make, make_sequence: MakeSequence) -> None:
    model = make_model()
    seq = make_sequence(60)
    torch.testing.assert_close(model.embed(seq).double(), make_model().double().embed(seq), rtol=0, atol=2e-5)


def test_the_released_configuration_has_the_published_number_of_parameters() -> None:
    model = CrossDNA(CrossDNAConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_129_413


def test_the_backend_is_set_everywhere(make_model: Make) -> None:
    model = make_model()
    model.set_backend("torch")
    backends = [module.backend for module in model.modules() if isinstance(module, Comba)]
    assert backends == ["torch"] * (2 * model.config.depth)


# Scores


def test_targets_and_heads() -> None:
    config = CrossDNAConfig(d_model=8, depth=1, comba_heads=1, comba_head_dim=2, attention_heads=1)
    regression, language = CrossDNA(config, ["a", "b"]), CrossDNA(config)
    assert regression.targets == ("a", "b")
    assert regression.head is not None
    assert language.targets == (LOG_LIKELIHOOD,)
    assert language.head is None


def test_a_regression_is_linear_in_the_mean_of_the_fused_representation(
    make_model: Make, make_sequence: MakeSequence
) -> None:
    model = make_model(targets=("one", "two")).double()
    seqs = [make_sequence(30, 1), make_sequence(30, 2, n_at=(4,))]
    expected = model.embed(seqs).mean(1) @ model.head.linear.weight.T + model.head.linear.bias
    torch.testing.assert_close(model(model.one_hot(seqs)), expected, rtol=0, atol=1e-13)


def test_the_log_likelihood_is_the_mean_over_observed_bases(make_model: Make, make_sequence: MakeSequence) -> None:
    model = make_model(targets=()).double()
    seqs = [make_sequence(60, 1), make_sequence(60, 2, n_at=(0, 30, 31, 59)), "N" * 59 + "G"]
    logits = model.token_logits(seqs)
    for row, seq in enumerate(seqs):
        log_probability = logits[row, :, :4].log_softmax(-1)  # N is no outcome
        observed = [log_probability[i, "ACGT".index(base)] for i, base in enumerate(seq) if base != "N"]
        score = model(model.one_hot(seqs))[row]
        torch.testing.assert_close(score, torch.stack(observed).mean().reshape(1), rtol=0, atol=1e-13)


def test_a_sequence_of_n_has_a_log_likelihood_of_zero(make_model: Make) -> None:
    model = make_model(targets=())
    assert model(model.one_hot("NNNN")).tolist() == [[0.0]]


# The frozen gate


@pytest.mark.parametrize(("steps", "frozen"), [(0, True), (9, True), (10, False), (11, False)])
def test_a_frozen_gate_is_one_half_everywhere(
    make_model: Make, make_sequence: MakeSequence, steps: int, frozen: bool
) -> None:
    model = make_model(gate_freeze_steps=10).double()
    model.fusion.steps.fill_(steps)
    with capture(model, "bridge.out_*", "fusion.*") as acts:
        model.embed(make_sequence(BLOCK))
    a, b = (acts[f"bridge.out_{side}"][0].value for side in "ab")
    a, b = model.fusion.project_a(a), model.fusion.project_b(b)
    mean = F.layer_norm(0.5 * (a + b), a.shape[-1:], eps=1e-5)
    assert bool((acts["fusion.gate"][0].value == 0.5).all()) is frozen
    assert torch.allclose(acts["fusion.out"][0].value, mean, rtol=0, atol=1e-12) is frozen


def test_without_a_freeze_the_gate_is_free_from_the_start(make_model: Make, make_sequence: MakeSequence) -> None:
    model = make_model(gate_freeze_steps=0)
    assert model.fusion.steps.item() == 0
    with capture(model, "fusion.gate") as acts:
        model.embed(make_sequence(BLOCK))
    assert not (acts["fusion.gate"][0].value == 0.5).any()


# Gradients


def strands_of(model: CrossDNA, seq: str) -> tuple[Tensor, Tensor]:
    forward = model.one_hot(seq)
    return forward.clone().requires_grad_(), reverse_complement(forward).clone().requires_grad_()


@pytest.mark.parametrize("targets", [("activity",), ()])
@pytest.mark.parametrize("rc_blocks", ["aligned", "mirrored"])
def test_gradients_reach_every_position_through_both_strands(
    make_model: Make, make_sequence: MakeSequence, rc_blocks: str, targets: tuple[str, ...]
) -> None:
    model = make_model(targets=targets, rc_blocks=rc_blocks).double()
    seq = make_sequence(2 * BLOCK + 5, n_at=(6,))
    forward, reverse = strands_of(model, seq)
    gradients = torch.autograd.grad(model.forward_strands(forward, reverse).sum(), (forward, reverse))
    for gradient in gradients:
        assert gradient.isfinite().all()
        assert (gradient.abs().amax(1) > 0).all()
    x = model.one_hot(seq).requires_grad_()
    (whole,) = torch.autograd.grad(model(x).sum(), x)
    torch.testing.assert_close(whole, gradients[0] + reverse_complement(gradients[1]), rtol=0, atol=1e-14)


@pytest.mark.parametrize("targets", [("activity",), ()])
def test_gradients_are_those_of_finite_differences(
    make_model: Make, make_sequence: MakeSequence, targets: tuple[str, ...]
) -> None:
    model = make_model(targets=targets, depth=1, block_size=3).double()
    assert torch.autograd.gradcheck(model.forward_strands, strands_of(model, make_sequence(5, n_at=(2,))))


def test_forward_reads_both_strands_off_one_input(make_model: Make, make_sequence: MakeSequence) -> None:
    model = make_model()
    x = model.one_hot(make_sequence(60))
    assert torch.equal(model(x), model.forward_strands(x, reverse_complement(x)))


def test_every_parameter_has_a_gradient(make_model: Make, make_sequence: MakeSequence) -> None:
    model = make_model().double().requires_grad_(True)
    model(model.one_hot(make_sequence(2 * BLOCK))).sum().backward()
    without = [
        name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == ["lm_head.weight", "lm_head.bias"]  # the other head


def test_embed_and_token_logits_keep_no_graph(make_model: Make) -> None:
    model = make_model().requires_grad_(True)
    assert not model.embed("ACGT").requires_grad
    assert not model.token_logits("ACGT").requires_grad
    assert model(model.one_hot("ACGT")).requires_grad


def test_dropout_acts_in_training_alone(make_model: Make, make_sequence: MakeSequence) -> None:
    model = make_model()
    x = model.one_hot(make_sequence(30))
    assert torch.equal(model(x), model(x))
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert not torch.equal(model(x), model(x))


def test_one_string_is_no_list_of_targets() -> None:
    with pytest.raises(TypeError, match="`targets` must be a list of names, but got the string 'activity'"):
        CrossDNA(CrossDNAConfig(), "activity")


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("on_kernels", [True, False])
def test_lower_precision_where_it_is_asked_for(gradients: bool, on_kernels: bool) -> None:
    model = load_model("retina-enhancer")
    x = model.one_hot(["ACGGTCATTA" * 16, "TTGACCTAAG" * 16])
    exact = model(x)
    lending = accelerated(model, True, 1.0) if on_kernels and find_compiler() else nullcontext()
    with lending, torch.set_grad_enabled(gradients), torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(x)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.03, atol=0.03)
    assert not torch.equal(rounded.float(), exact)


class Tripled(CrossDNA):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


@pytest.mark.parametrize("how", ["hook", "attribute", "subclass"])
def test_what_is_done_to_the_whole_model_counts_everywhere(how: str, make_model: Callable[..., CrossDNA]) -> None:
    """Attributions by strand and exchange compute from parts, and would leave it out."""
    plain = make_model(block_size=None).double()
    model = copy.deepcopy(plain)
    if how == "hook":
        model.register_forward_hook(lambda module, args, output: 3 * output)
    elif how == "attribute":
        own = model.forward
        model.forward = lambda x: 3 * own(x)
    else:
        model.__class__ = Tripled
    sequence = "ACGTTGCAACGTACGGATTA"
    one, other = cdi.input_gradient(sequence, plain), cdi.input_gradient(sequence, model)
    np.testing.assert_allclose(other.values, 3 * one.values, rtol=1e-9, atol=1e-12)
    assert not other.by_strand
    for analysis in (cdi.strand_exchange, lambda seq, model: cdi.ablate_exchange(seq, model, positions=range(4))):
        with pytest.raises(ValueError, match=r"The exchange of crossdna cannot be analysed: .*(hooks|forward)"):
            analysis(sequence, model)
    assert cdi.orientation([sequence] * 3, model).exchanged is None
