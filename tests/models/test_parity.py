"""Acceptance test: published checkpoints give the published numbers, and the rest of the model agrees with them.

The reference numbers are float64 outputs of the published computation on random weights. They vary the number of
blocks, ragged last blocks and the frozen gate. Everything else (fewer key/value heads, the gate's temperature, the
convolution's width, models without bridge or convolution, one block of any length, aligned pairing) is compared here
with another way of computing the same thing.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

import crossdna_interpret as cdi
from crossdna_interpret.dna import alphabet
from crossdna_interpret.models.crossdna.model import CrossDNA

Make = Callable[..., CrossDNA]
MakeSequence = Callable[..., str]

CASES = {"one_block": (33, 70, 128), "three_blocks": (64, 128, 150, 192), "frozen_gate": (50, 100)}
CASE_LENGTHS = [(case, length) for case, lengths in CASES.items() for length in lengths]
BLOCKED = {
    "branch_a": "branch_a.out",
    "branch_b": "branch_b.out",
    "bridge_a": "bridge.out_a",
    "bridge_b": "bridge.out_b",
    "gate_logits": "fusion.gate_logits",
}

# What the specification asks for.
TOLERANCE = {"float32": 2e-4, "float64": 1e-6}


def strings(ids: Tensor) -> list[str]:
    return [alphabet.decode(row.numpy()) for row in ids]


def close(ours: Tensor, theirs: Tensor, tolerance: float, what: str) -> None:
    assert ours.shape == theirs.shape, what
    error = (ours.double() - theirs).abs().max().item()
    assert error <= tolerance, f"{what} is off by {error:.1e}"


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("case", "length"), CASE_LENGTHS)
def test_published_numbers_are_reproduced(shared: Path, case: str, length: int, dtype: str) -> None:
    folder = shared / "parity" / "crossdna" / case
    expected = load_file(folder / "io.safetensors")
    model = cdi.load_model(folder, dtype=dtype)  # type: ignore[arg-type]
    assert model.dtype == getattr(torch, dtype)
    seqs = strings(expected[f"ids.{length}"])
    with cdi.capture(model, *BLOCKED.values()) as acts:
        fused = model.embed(seqs)
    close(fused, expected[f"fused.{length}"], TOLERANCE[dtype], "fused")
    close(model.token_logits(seqs), expected[f"logits.{length}"], TOLERANCE[dtype], "logits")
    for key, hook in BLOCKED.items():
        for t, act in enumerate(acts[hook]):
            close(act.value, expected[f"{key}.{length}.block{t}"], TOLERANCE[dtype], f"{key}, block {t}")
        assert f"{key}.{length}.block{len(acts[hook])}" not in expected, "a block is missing"


def test_every_reference_number_is_compared(shared: Path) -> None:
    root = shared / "parity" / "crossdna"
    assert {path.name for path in root.iterdir() if path.is_dir()} == set(CASES)
    for case, lengths in CASES.items():
        keys = set(load_file(root / case / "io.safetensors"))
        compared = {f"{name}.{length}" for name in ("ids", "fused", "logits") for length in lengths}
        blocked = {key for key in keys if ".block" in key}
        assert keys - blocked == compared
        assert {key.split(".")[0] for key in blocked} == set(BLOCKED)
        assert {int(key.split(".")[1]) for key in blocked} == set(lengths)


def test_the_references_cover_n_and_several_blocks_and_the_frozen_gate(shared: Path) -> None:
    root = shared / "parity" / "crossdna"
    for case, lengths in CASES.items():
        content = load_file(root / case / "io.safetensors")
        assert all((content[f"ids.{length}"] == alphabet.N_ID).any() for length in lengths)
    content = load_file(root / "three_blocks" / "io.safetensors")
    assert content["branch_a.150.block2"].shape[1] == 150 - 2 * 64  # a ragged last block
    frozen = cdi.load_model(root / "frozen_gate")
    assert 0 <= frozen.fusion.steps.item() < frozen.config.gate_freeze_steps
    unfrozen = copy.deepcopy(frozen)
    unfrozen.fusion.steps.fill_(frozen.config.gate_freeze_steps)
    seq = strings(load_file(root / "frozen_gate" / "io.safetensors")["ids.50"])
    error = (unfrozen.embed(seq) - frozen.embed(seq)).abs().max()
    assert error > 100 * TOLERANCE["float32"]  # the reference would notice if the freeze were ignored


def test_the_references_tell_the_pairings_apart(shared: Path) -> None:
    folder = shared / "parity" / "crossdna" / "three_blocks"
    content = load_file(folder / "io.safetensors")
    model = cdi.load_model(folder)
    aligned = CrossDNA(dataclasses.replace(model.config, rc_blocks="aligned")).eval()
    aligned.load_state_dict(model.state_dict())
    for length in (64, 150):
        error = (aligned.embed(strings(content[f"ids.{length}"])) - content[f"fused.{length}"]).abs().max().item()
        assert (error > 100 * TOLERANCE["float32"]) is (length > 64)


# What the fixtures do not vary


def like(model: CrossDNA, **changes: object) -> CrossDNA:
    """A model of another config with the same weights, where both have them."""
    other = CrossDNA(dataclasses.replace(model.config, **changes), model.targets)  # type: ignore[arg-type]
    other = other.to(model.dtype).eval().requires_grad_(False)
    state = model.state_dict()
    other.load_state_dict({name: state.get(name, tensor) for name, tensor in other.state_dict().items()})
    return other


def by_the_page(model: CrossDNA, seq: str) -> tuple[Tensor, Tensor]:
    """Fused representation (L, H) and logits (L, 5), with blocks, strands, bridge and fusion as the page has them.

    The branches themselves are the model's own: they are compared with the page in the tests of their parts. Every
    position is looked up by its place on the duplex, so no slice or flip is shared with the model.
    """
    state, config = model.state_dict(), model.config
    length, size = len(seq), model.config.block_size or len(seq)
    hot = torch.from_numpy(alphabet.one_hot(alphabet.encode(seq))).to(model.dtype)
    # Position i of the reverse strand pairs with position L - 1 - i.
    hot_rc = torch.stack([hot[[3, 2, 1, 0, 4], length - 1 - i] for i in range(length)], dim=1)

    def stem(name: str, x: Tensor) -> Tensor:
        weight, bias = state[f"stem.conv_{name}.weight"], state[f"stem.conv_{name}.bias"]
        padded = F.pad(x, (4, 4))
        y = torch.stack([torch.einsum("hcw,cw->h", weight, padded[:, i : i + 9]) + bias for i in range(length)])
        return y * 0.5 * (1 + torch.erf(y / 2**0.5))

    features, features_rc = stem("forward", hot), stem("reverse", hot_rc)

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x: Tensor, name: str | None = None) -> Tensor:
        y = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return y if name is None else y * state[f"{name}.weight"] + state[f"{name}.bias"]

    def context(side: str, x: Tensor) -> Tensor:
        parts = []
        for number, dilation in enumerate((1, 2, 4, 8, 16)):
            weight = state[f"bridge.context_of_{side}.convs.{number}.weight"][:, 0]
            padded = F.pad(x, (0, 0, 4 * dilation, 4 * dilation))
            parts.append(sum(padded[tap * dilation : tap * dilation + len(x)] * weight[:, tap] for tap in range(9)))
        return linear(f"bridge.context_of_{side}.mix", torch.cat(parts, dim=-1))

    def bridge(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        to_a = linear("bridge.project_b_to_a", b + context("b", b)) + linear("bridge.pool_b_to_a", b.mean(0))
        to_b = linear("bridge.project_a_to_b", a + context("a", a)) + linear("bridge.pool_a_to_b", a.mean(0))
        gates = torch.sigmoid(linear("bridge.gate", torch.cat([a, b, a - b, a * b], dim=-1)))
        width = config.d_model
        return (norm(a + gates[:, :width] * to_a, "bridge.norm_a"), norm(b + gates[:, width:] * to_b, "bridge.norm_b"))

    def residual(side: str, x: Tensor) -> Tensor:
        inner = linear(f"fusion.project_{side}.linear1", x)
        inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
        return linear(f"fusion.project_{side}.linear2", inner) + x

    fused = []
    for t, start in enumerate(range(0, length, size)):
        block = range(start, min(start + size, length))
        # Aligned: where the same base pairs are on the reverse strand, in its own order.
        rc_block = list(block) if config.rc_blocks == "mirrored" else sorted(length - 1 - p for p in block)
        forward, reverse = features[list(block)], features_rc[rc_block]
        a, b = (forward, reverse) if t % 2 == 0 else (reverse, forward)
        a, b = model.branch_a(a.unsqueeze(0))[0], model.branch_b(b.unsqueeze(0))[0]
        if t % 2 == 0:
            b = b.flip(0)
        else:
            a = a.flip(0)
        if config.use_bridge:
            a, b = bridge(a, b)
        a, b = residual("a", a), residual("b", b)
        gate = torch.sigmoid(linear("fusion.gate", torch.cat([a, b], dim=-1)) / config.gate_temp)
        if state["fusion.steps"].item() < config.gate_freeze_steps:
            gate = torch.full_like(gate, 0.5)
        fused.append(norm(gate * a + (1 - gate) * b))
    result = torch.cat(fused)
    return result, linear("lm_head", result)


@pytest.mark.parametrize("length", [5, 24, 25, 60])
@pytest.mark.parametrize(
    "changes",
    [
        {"rc_blocks": "aligned"},
        {"rc_blocks": "mirrored"},
        {"use_bridge": False},
        {"use_bridge": False, "rc_blocks": "mirrored"},
        {"gate_temp": 0.3},
        {"gate_freeze_steps": 1},
        {"block_size": None},
        {"block_size": 7},
        {"kv_heads": 1},
        {"conv_size": 2},
        {"conv_size": None},
    ],
    ids=str,
)
def test_the_model_is_the_one_on_the_page(
    make_model: Make, make_sequence: MakeSequence, changes: dict[str, object], length: int
) -> None:
    model = make_model(targets=(), **changes).double()
    seq = make_sequence(length, 3, n_at=(1, length - 2))
    fused, logits = by_the_page(model, seq)
    torch.testing.assert_close(model.embed(seq)[0], fused, rtol=0, atol=1e-11)
    torch.testing.assert_close(model.token_logits(seq)[0], logits, rtol=0, atol=1e-11)


@pytest.fixture
def seqs(make_sequence: MakeSequence) -> list[str]:
    return [make_sequence(60, 1), make_sequence(60, 2, n_at=(0, 30, 31))]


def differ(ours: CrossDNA, theirs: CrossDNA, seqs: list[str]) -> float:
    """Largest difference of the fused representations."""
    return (ours.embed(seqs) - theirs.embed(seqs)).abs().max().item()


def test_no_block_size_is_one_block_at_least_as_long_as_the_sequence(make_model: Make, seqs: list[str]) -> None:
    model = make_model(block_size=None).double()
    assert differ(model, like(model, block_size=60), seqs) == 0
    assert differ(model, like(model, block_size=1000), seqs) == 0
    assert differ(model, like(model, block_size=59), seqs) > 1e-3


def test_fewer_key_value_heads_are_repeated_ones(make_model: Make, seqs: list[str]) -> None:
    model = make_model(attention_heads=6, kv_heads=2).double()
    full = (
        CrossDNA(dataclasses.replace(model.config, kv_heads=None), model.targets).double().eval().requires_grad_(False)
    )
    dim = model.config.d_model // 6
    state = model.state_dict()
    for name, tensor in state.items():
        if name.endswith("attention.qkv_proj.weight"):
            q, k, v = tensor.split([6 * dim, 2 * dim, 2 * dim])
            k, v = (part.unflatten(0, (2, dim)).repeat_interleave(3, dim=0).flatten(0, 1) for part in (k, v))
            state[name] = torch.cat([q, k, v])
    full.load_state_dict(state)
    assert differ(model, full, seqs) < 1e-12


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_a_temperature_divides_the_gate_s_weights(make_model: Make, seqs: list[str], temperature: float) -> None:
    model = make_model(gate_temp=temperature).double()
    plain = like(model, gate_temp=1.0)
    assert differ(model, plain, seqs) > 1e-3
    plain.fusion.gate.weight /= temperature
    plain.fusion.gate.bias /= temperature
    assert differ(model, plain, seqs) < 1e-12


def combas(model: CrossDNA) -> list[torch.nn.Module]:
    return [layer.comba for branch in (model.branch_a, model.branch_b) for layer in branch.layers]


def test_a_short_convolution_is_a_long_one_without_its_oldest_taps(make_model: Make, seqs: list[str]) -> None:
    model = make_model(conv_size=2).double()
    longer = make_model(conv_size=5).double()
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("comba.conv")}
    longer.load_state_dict(state, strict=False)
    for short, long in zip(combas(model), combas(longer), strict=True):
        long.conv.copy_(F.pad(short.conv, (3, 0)))
    assert differ(model, longer, seqs) < 1e-12


def test_no_convolution_is_one_that_sees_the_position_alone(make_model: Make, seqs: list[str]) -> None:
    model = make_model(conv_size=None).double()
    with_one = make_model(conv_size=4).double()
    with_one.load_state_dict(model.state_dict(), strict=False)
    for layer in combas(with_one):
        layer.conv.zero_()[..., -1] = 1
    assert differ(model, with_one, seqs) < 1e-12


def test_dropout_does_not_act_in_evaluation(make_model: Make, seqs: list[str]) -> None:
    model = make_model(dropout=0.9)
    assert differ(model, like(model, dropout=0.0), seqs) == 0
    assert differ(model, model, seqs) == 0
