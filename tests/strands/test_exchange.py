"""`strand_exchange`: its sums, entries that must be zero, and models with a known answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from torch import nn

import crossdna_interpret as cdi
from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.models import spans
from crossdna_interpret.models.crossdna import blocks
from crossdna_interpret.models.crossdna.bridge import DILATIONS
from crossdna_interpret.models.crossdna.exchange import Messages, Received
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.crossdna.strand_symmetry import swap_strands
from crossdna_interpret.models.hooks import capture, intervene

Make = Callable[..., CrossDNA]
MakeSequence = Callable[..., str]

# config, targets, length, N
CASES = {
    "one block": ({"block_size": None}, ("rods", "cones"), 83, (0, 40)),
    "shorter than a kernel": ({}, ("rods", "cones"), 3, ()),
    "one base": ({}, ("rods", "cones"), 1, ()),
    "several blocks": ({}, ("rods", "cones"), 60, (23, 24)),
    "mirrored": ({"rc_blocks": "mirrored"}, ("rods", "cones"), 61, (5,)),
    "log-likelihood": ({}, (), 53, (2, 30)),
    "log-likelihood, mirrored": ({"rc_blocks": "mirrored"}, (), 53, (30,)),
    "frozen gate": ({"gate_freeze_steps": 10, "gate_temp": 0.7}, ("rods", "cones"), 40, ()),
}
every_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture
def asked(case: str, make_model: Make, make_sequence: MakeSequence) -> tuple[CrossDNA, str, int]:
    config, targets, length, n_at = CASES[case]
    model = make_model(targets=targets, **config).double()
    return model, make_sequence(length, n_at=n_at), len(targets) - 1 if targets else 0


def scores(model: CrossDNA, sequence: str, target: int, change: dict[str, float]) -> float:
    """The score with messages of the given directions multiplied by a number, by hooks on the model itself."""

    # In even blocks branch A reads the forward strand; hooks say which strand a message arrives at.
    def scaled(value: torch.Tensor, where: spans.Locus) -> torch.Tensor:
        return value * change["reverse_to_forward" if where.strand == "forward" else "forward_to_reverse"]

    with intervene(model, {"bridge.message_*": scaled}):
        return float(cdi.predict(sequence, model)[0, target])


@every_case
def test_effects_are_those_of_the_model_with_messages_taken_away(asked: tuple[CrossDNA, str, int]) -> None:
    model, sequence, target = asked
    effects = cdi.strand_exchange(sequence, model, target=target).effects
    ways = ("reverse_to_forward", "forward_to_reverse")
    expected = [scores(model, sequence, target, dict(zip(ways, kept, strict=True))) for kept in
                ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0))]  # fmt: skip
    result = [effects.both, effects.reverse_to_forward, effects.forward_to_reverse, effects.none]
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)
    assert effects.interaction == pytest.approx(expected[0] - expected[1] - expected[2] + expected[3], abs=1e-12)
    assert abs(effects.total) > 1e-3


@every_case
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-3)])
def test_contributions_add_up(asked: tuple[CrossDNA, str, int], dtype: torch.dtype, tolerance: float) -> None:
    model, sequence, target = asked
    x = cdi.strand_exchange(sequence, model.to(dtype), target=target)
    total = x.contributions.sum(dtype=np.float64) + x.bias.sum(dtype=np.float64)
    assert total == pytest.approx(x.effects.both - x.effects.none, rel=tolerance, abs=0)
    assert x.completeness_error <= tolerance * abs(x.effects.total)
    np.testing.assert_allclose(x.by_source.sum(0), x.contributions, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(x.received.sum(), x.sent.sum() + x.bias.sum(), rtol=1e-4)


@every_case
def test_what_positions_receive_adds_up_at_each(asked: tuple[CrossDNA, str, int]) -> None:
    """Stronger than the sum: everything after the bridge looks at one position, so each has an effect of its own."""
    model, sequence, target = asked
    x = cdi.strand_exchange(sequence, model, target=target)
    each = Received(model, target, len(sequence))(model.one_hot(sequence))[0].numpy()
    np.testing.assert_allclose(x.received[0] + x.received[1, x.partner], each, rtol=0, atol=1e-12)


@every_case
def test_path_is_captums(asked: tuple[CrossDNA, str, int]) -> None:
    """Integrated gradients of the gated messages from zero, by captum, with messages put in by hooks."""
    model, sequence, target = asked
    with capture(model, "bridge.message_*") as seen:
        cdi.predict(sequence, model)
    names = list(seen)
    messages = [activation.value for name in names for activation in seen[name]]
    wheres = [activation.where for name in names for activation in seen[name]]

    def score(*given: torch.Tensor) -> torch.Tensor:
        left = {name: list(given[i * len(seen[name]) : (i + 1) * len(seen[name])]) for i, name in enumerate(names)}
        with intervene(model, {name: (lambda value, where, name=name: left[name].pop(0)) for name in names}):
            return model(model.one_hot([sequence] * len(given[0])))[:, target]

    shares = IntegratedGradients(score).attribute(
        tuple(messages), n_steps=40, method="gausslegendre", internal_batch_size=40
    )
    x = cdi.strand_exchange(sequence, model, target=target)
    for where, share in zip(wheres, shares, strict=True):
        received = x.received[0 if where.strand == "forward" else 1][where.positions]
        # captum rounds its nodes and weights to float32.
        np.testing.assert_allclose(share[0].sum(-1).numpy(), received, rtol=1e-6, atol=1e-8)


@every_case
def test_terms_are_those_of_the_message(asked: tuple[CrossDNA, str, int]) -> None:
    """A sender's terms are what the message loses without it, along the same gradient."""
    model, sequence, target = asked
    result = Messages(model, alphabet.encode(sequence), target)
    gradient = torch.from_numpy(np.random.default_rng(0).normal(size=result.states.shape))
    by_sender, bias = result.shares(gradient, np.float64)
    np.testing.assert_allclose(bias, (gradient * result.parts[:, -1]).sum(-1), rtol=0, atol=1e-12)
    for sender in {0, len(sequence) // 2, len(sequence) - 1}:
        without = result.states.clone()
        without[:, sender] = 0
        lost = (gradient[:, None] * (result.parts - result.messages(without))).sum(-1)  # (2, S, L)
        assert not lost[:, -1].any()
        expected = lost[:, :-1].transpose(0, 1).numpy()
        np.testing.assert_allclose(by_sender[..., sender], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rc_blocks", ["aligned", "mirrored"])
def test_bands(rc_blocks: str, make_model: Make, make_sequence: MakeSequence) -> None:
    length = 300
    x = cdi.strand_exchange(make_sequence(length), make_model(block_size=200, rc_blocks=rc_blocks))
    receiver = np.arange(length)
    # Where a message comes from when its sender is the same position of the duplex, or of its mirror.
    middle = np.empty((2, length), dtype=int)
    middle[0] = x.partner
    middle[1, x.partner] = receiver
    away = np.abs(receiver[None, None, :] - middle[:, :, None])
    reach = dict(zip(x.sources, (0, *(4 * dilation for dilation in DILATIONS)), strict=False))
    for source, terms in zip(x.sources, x.by_source, strict=True):
        if source in reach:
            assert not terms[away > reach[source]].any()
            assert terms[away == reach[source]].any()
    block = np.minimum(receiver // 200, 1)
    of_sender = block if rc_blocks == "aligned" else np.where(receiver >= 100, 0, 1)
    blocks = np.stack([block[:, None] == of_sender[None], of_sender[:, None] == block[None]])
    everywhere = x.by_source[x.sources.index("global mean")]
    assert not everywhere[~blocks].any()
    assert everywhere[blocks].all()
    assert x.mirrored == (rc_blocks == "mirrored")


def test_shut_gates_let_nothing_through(make_model: Make, make_sequence: MakeSequence) -> None:
    model = make_model()
    with torch.no_grad():
        model.bridge.gate.bias.fill_(-1e4)
        model.bridge.gate.weight.zero_()
    x = cdi.strand_exchange(make_sequence(50), model)
    assert not x.by_source.any() and not x.bias.any() and not x.gates.any()  # noqa: PT018
    assert x.effects.total == x.effects.interaction == x.completeness_error == 0
    assert x.effects.both == x.effects.none != 0


def zero(*layers: nn.Module) -> None:
    with torch.no_grad():
        for layer in layers:
            for parameter in layer.parameters():
                parameter.zero_()


@pytest.mark.parametrize("sender", ["reverse", "forward"])
def test_a_bridge_that_copies_one_channel_shows_only_that(
    sender: str, make_model: Make, make_sequence: MakeSequence
) -> None:
    model, sequence = make_model(block_size=None).double(), make_sequence(40)
    bridge = model.bridge
    zero(bridge.project_a_to_b, bridge.project_b_to_a, bridge.pool_a_to_b, bridge.pool_b_to_a)
    zero(bridge.context_of_a, bridge.context_of_b)
    project = bridge.project_b_to_a if sender == "reverse" else bridge.project_a_to_b  # one block: A is forward
    with torch.no_grad():
        project.weight[3, 5] = 1.0
    with capture(model, "branch_*.out") as seen:
        cdi.predict(sequence, model)
    x = cdi.strand_exchange(sequence, model)
    way = 0 if sender == "reverse" else 1
    here = np.zeros_like(x.by_source, dtype=bool)
    here[0, way] = np.eye(40, dtype=bool)
    assert not x.by_source[~here].any() and not x.bias.any()  # noqa: PT018
    copied = blocks.flip(seen["branch_b.out" if way == 0 else "branch_a.out"][0].value, spans.whole(sender, 40))
    # Each share is the copied number by a gradient of its own, so it is zero just where the number is.
    assert (np.diagonal(x.by_source[0, way]) != 0).tolist() == (copied[0, :, 5] != 0).tolist()
    other = x.effects.forward_to_reverse if way == 0 else x.effects.reverse_to_forward
    assert other == x.effects.none != x.effects.both


@pytest.mark.parametrize("length", [47, 72])
def test_reversing_the_sequence_and_exchanging_the_branches_mirrors_the_map(
    length: int, make_model: Make, make_sequence: MakeSequence
) -> None:
    # Of three whole blocks, the second is the odd one from both ends, so that each branch reads what it read.
    model, sequence = make_model(block_size=24 if length == 72 else None), make_sequence(length, n_at=(7,))
    x = cdi.strand_exchange(sequence, model)
    reverse = cdi.strand_exchange(strand.reverse_complement(sequence), swap_strands(model))
    np.testing.assert_allclose(reverse.by_source[:, ::-1, ::-1, ::-1], x.by_source, rtol=0, atol=1e-5)
    np.testing.assert_allclose(reverse.bias[::-1, ::-1], x.bias, rtol=0, atol=1e-5)
    np.testing.assert_allclose(reverse.gate_channels[::-1, ::-1], x.gate_channels, rtol=0, atol=1e-5)
    np.testing.assert_allclose(1 - reverse.fusion_gate[::-1], x.fusion_gate, rtol=0, atol=1e-5)
    assert reverse.effects.reverse_to_forward == pytest.approx(x.effects.forward_to_reverse, abs=1e-6)
    assert np.abs(x.by_source).max() > 1e-3


@every_case
def test_gates_are_those_of_the_hooks(asked: tuple[CrossDNA, str, int]) -> None:
    model, sequence, target = asked
    x = cdi.strand_exchange(sequence, model, target=target)
    with capture(model, "bridge.gate_?", "fusion.gate") as seen:
        cdi.predict(sequence, model)
    for name in ("bridge.gate_a", "bridge.gate_b"):
        for gate in seen[name]:
            way = 0 if gate.where.strand == "forward" else 1
            np.testing.assert_allclose(x.gate_channels[way, gate.where.positions], gate.value[0], rtol=0, atol=1e-12)
    for gate, pair in zip(seen["fusion.gate"], model.pairs(len(sequence)), strict=True):
        weight = gate.value[0].mean(-1)
        expected = weight if pair.a_is_forward else 1 - weight
        np.testing.assert_allclose(x.fusion_gate[pair.forward.start : pair.forward.end], expected, atol=1e-12)


def test_lists_dtypes_and_tables(make_model: Make, make_sequence: MakeSequence) -> None:
    model = make_model()
    first, second = cdi.strand_exchange([make_sequence(30), make_sequence(25)], model)
    assert first.by_source.dtype == np.float32 and second.contributions.shape == (2, 25, 25)  # noqa: PT018
    assert first.certificate.checks["difference_from_prediction"] < 1e-5
    table = first.to_dataframe()
    assert len(table) == 60
    np.testing.assert_allclose(table["received"].sum(), first.effects.total, rtol=1e-4)
    np.testing.assert_allclose(table[list(first.sources)].sum(axis=1) + table["bias"], table["received"], atol=1e-6)
    dataset = first.to_xarray()
    np.testing.assert_array_equal(dataset["contributions"].sum("source"), first.contributions)
    with pytest.raises(ValueError, match="read-only"):
        first.contributions[0] = 1


def test_edits_of_the_branches_take_part(make_model: Make, make_sequence: MakeSequence) -> None:
    model, sequence = make_model(), make_sequence(40)
    with intervene(model, {"branch_b.out": lambda value, where: 0 * value}):
        x = cdi.strand_exchange(sequence, model)
    assert not x.by_source[:, 0, :24].any() and x.by_source[:, 1, :24].any()  # noqa: PT018


def test_hooks_where_messages_are_taken_apart_are_refused(make_model: Make, make_sequence: MakeSequence) -> None:
    model, sequence = make_model(), make_sequence(40)
    for ask in (cdi.strand_exchange, cdi.ablate_exchange, cdi.exchange_ism):
        with (
            intervene(model, {"bridge.gate_a": lambda value, where: 0 * value}),
            pytest.raises(ValueError, match="Hooks"),
        ):
            ask(sequence, model)


def test_models_without_an_exchange_are_refused(make_model: Make, make_sequence: MakeSequence) -> None:
    with pytest.raises(ValueError, match="`model` crossdna has no bridge"):
        cdi.strand_exchange(make_sequence(20), make_model(use_bridge=False))

    class Other(nn.Module):
        targets, name, device, dtype = ("a",), "other", torch.device("cpu"), torch.float32

    with pytest.raises(TypeError, match="`model` other has no strand exchange"):
        cdi.strand_exchange("ACGT", Other())


def test_a_map_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch, make_model: Make) -> None:
    from crossdna_interpret.strands import exchange as maps

    monkeypatch.setattr(maps, "available_memory", lambda device: 10_000_000)
    with pytest.raises(MemoryError, match=r"The exchange map of 1,000 bases takes 0\.1 GB"):
        cdi.strand_exchange("ACGT" * 250, make_model())
