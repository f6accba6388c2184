"""Checkpoints: what is saved comes back, and a published layout is read tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from crossdna_interpret.models.checkpoints import FORMAT
from crossdna_interpret.models.crossdna.checkpoint import load_crossdna, save_crossdna
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA
from tests.models.published_checkpoint import DEPTH, PUBLISHED_CONFIG, edited, published_tensors

Make = Callable[..., CrossDNA]
MakeSequence = Callable[..., str]


def same_weights(first: CrossDNA, second: CrossDNA) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


# Our layout


@pytest.mark.parametrize("targets", [(), ("activity",), ("rod", "cone", "Müller glia")])
@pytest.mark.parametrize("changes", [{}, {"use_bridge": False, "conv_size": None, "block_size": None, "kv_heads": 1}])
def test_what_is_saved_comes_back_to_the_bit(
    tmp_path: Path, make_model: Make, make_sequence: MakeSequence, targets: tuple[str, ...], changes: dict[str, Any]
) -> None:
    model = make_model(targets=targets, **changes)
    model.name = "retina"
    model.fusion.steps.fill_(7)
    folder = save_crossdna(model, tmp_path / "new" / "folder", card="# Card\n\nµ\n", provenance={"seed": 3})
    assert folder == tmp_path / "new" / "folder"
    loaded = load_crossdna(folder)
    assert same_weights(model, loaded)
    assert loaded.config == model.config
    assert loaded.name == "retina"
    assert loaded.targets == model.targets
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    x = model.one_hot([make_sequence(50, 1), make_sequence(50, 2, n_at=(3,))])
    assert torch.equal(loaded(x), model(x))
    assert (folder / "README.md").read_text(encoding="utf-8") == "# Card\n\nµ\n"
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert content["format"] == FORMAT
    assert content["provenance"] == {"seed": 3}


def test_saving_changes_nothing_and_takes_a_model_with_gradients(tmp_path: Path, make_model: Make) -> None:
    model = make_model().requires_grad_(True).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_crossdna(model, tmp_path, card="")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_weights_file_of_ours_can_be_named_itself(ours: Path) -> None:
    from_file = load_crossdna(ours / "model.safetensors")
    assert same_weights(from_file, load_crossdna(ours))
    assert (from_file.name, from_file.targets) == ("a name", ("one", "two"))


# The published layout


def test_the_published_layout_is_read_tensor_by_tensor(published: Path) -> None:
    stored = {name.removeprefix("backbone."): tensor for name, tensor in published_tensors().items()}
    model = load_crossdna(published)
    state = model.state_dict()
    assert model.config == CrossDNAConfig.from_published(PUBLISHED_CONFIG)

    def rows(name: str, *parts: str) -> None:
        expected = torch.cat([stored[part] for part in parts])
        assert torch.equal(state.pop(name), expected.reshape(state_shape[name])), name

    state_shape = {name: tensor.shape for name, tensor in state.items()}
    for side in "AB":
        branch, theirs = f"branch_{side.lower()}", f"branch{side}_core"
        for i in range(DEPTH):
            ours, layer = f"{branch}.layers.{i}", f"{theirs}.layers.{i}"
            rows(f"{ours}.comba.in_proj.weight", *(f"{layer}.comba.{name}_proj.weight" for name in "qkvgab"))
            rows(f"{ours}.comba.conv", *(f"{layer}.comba.{name}_conv1d.weight" for name in "qkv"))
            for name in ("A_log", "dt_bias", "decay", "D"):
                rows(f"{ours}.comba.{name}", f"{layer}.comba.{name}")
            rows(f"{ours}.comba.o_norm", f"{layer}.comba.o_norm.weight")
            rows(f"{ours}.comba.o_proj.weight", f"{layer}.comba.o_proj.weight")
            rows(f"{ours}.mixer_norm", f"{layer}.transformer.mixer_norm.weight")
            rows(f"{ours}.mlp_norm", f"{layer}.transformer.mlp_norm.weight")
            rows(f"{ours}.attention.qkv_proj.weight", *(f"{layer}.transformer.mixer.{n}_proj.weight" for n in "qkv"))
            rows(f"{ours}.attention.o_proj.weight", f"{layer}.transformer.mixer.o_proj.weight")
            rows(
                f"{ours}.mlp.gate_up_proj.weight", *(f"{layer}.transformer.mlp.{n}_proj.weight" for n in ("gate", "up"))
            )
            rows(f"{ours}.mlp.down_proj.weight", f"{layer}.transformer.mlp.down_proj.weight")
            for name in ("weight", "bias"):
                rows(f"{ours}.gate.{name}", f"{layer}.gate.{name}")
                rows(f"{ours}.out_norm.{name}", f"{layer}.out_norm.{name}")
        for i in range(5):
            rows(f"bridge.context_of_{side.lower()}.convs.{i}.weight", f"bridge.dw_{side}.{i}.weight")
        for name in ("weight", "bias"):
            rows(f"{branch}.output_norm.{name}", f"{theirs}.output_norm.{name}")
            rows(f"bridge.context_of_{side.lower()}.mix.{name}", f"bridge.mix_{side}.{name}")
            rows(f"bridge.norm_{side.lower()}.{name}", f"bridge.norm{side}.{name}")
            rows(f"fusion.project_{side.lower()}.linear1.{name}", f"proj_{side}.linear1.{name}")
            rows(f"fusion.project_{side.lower()}.linear2.{name}", f"proj_{side}.linear2.{name}")
    names = {"bridge.project_b_to_a": "bridge.proj_B2A", "bridge.project_a_to_b": "bridge.proj_A2B"}
    names |= {"bridge.pool_b_to_a": "bridge.glb_B2A", "bridge.pool_a_to_b": "bridge.glb_A2B"}
    names |= {"bridge.gate": "bridge.gate", "fusion.gate": "gate_fuse", "lm_head": "out_linear"}
    names |= {"stem.conv_forward": "linear", "stem.conv_reverse": "rc_linear"}
    for mine, published_name in names.items():
        for name in ("weight", "bias"):
            rows(f"{mine}.{name}", f"{published_name}.{name}")
    rows("fusion.steps", "g_step")
    assert not state  # nothing was left as it was initialised


def test_the_reference_checkpoints_are_read(shared: Path) -> None:
    for case in ("one_block", "three_blocks", "frozen_gate"):
        model = load_crossdna(shared / "parity" / "crossdna" / case)
        stored = load_file(shared / "parity" / "crossdna" / case / "model.safetensors")
        assert model.name == case
        assert torch.equal(model.fusion.steps, stored["backbone.g_step"])
        assert any("_ema." in name for name in stored)
        assert "backbone.P_comp" in stored


def test_the_teacher_and_the_permutation_have_no_effect(published: Path) -> None:
    before = load_crossdna(published)

    def change(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            if "_ema." in name or name.endswith("P_comp"):
                tensors[name] = torch.full((2, 2), float("nan"))

    assert same_weights(load_crossdna(edited(published, change)), before)

    def remove(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            if "_ema." in name or name.endswith("P_comp"):
                del tensors[name]

    assert same_weights(load_crossdna(edited(published, remove)), before)


def test_the_prefix_may_be_missing(published: Path) -> None:
    before = load_crossdna(published)

    def strip(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("backbone.")] = tensors.pop(name)

    assert same_weights(load_crossdna(edited(published, strip)), before)


def test_a_published_model_is_a_language_model(published: Path, make_sequence: MakeSequence) -> None:
    model = load_crossdna(published)
    assert model.head is None
    assert model.targets == ("log_likelihood",)
    seqs = [make_sequence(50, 1), make_sequence(50, 2, n_at=(0, 25, 49))]
    probability = model.token_logits(seqs)[..., :4].softmax(-1)  # over the four bases: N is no outcome
    for row, seq in enumerate(seqs):
        observed = [(i, "ACGT".index(base)) for i, base in enumerate(seq) if base != "N"]
        mean = sum(probability[row, i, base].log() for i, base in observed) / len(observed)
        torch.testing.assert_close(model(model.one_hot(seqs))[row], mean.reshape(1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["plain", "released-8.1M"])
def test_a_published_model_is_called_as_its_folder(published: Path, name: str) -> None:
    folder = published.rename(published.parent / name)
    assert load_crossdna(folder).name == name


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"])
@pytest.mark.parametrize("wrapped", [None, "state_dict", "model"])
def test_every_kind_of_file_gives_the_same_weights(published: Path, name: str, wrapped: str | None) -> None:
    folder = load_crossdna(published)
    assert same_weights(load_crossdna(published / "model.safetensors"), folder)
    tensors: dict[str, Any] = published_tensors()
    torch.save({wrapped: tensors, "epoch": 3} if wrapped else tensors, published / name)
    assert same_weights(load_crossdna(published / name), folder)
    (published / "model.safetensors").unlink()
    assert same_weights(load_crossdna(published), folder)


def test_safetensors_come_first(published: Path) -> None:
    torch.save({}, published / "pytorch_model.bin")
    load_crossdna(published)
    with pytest.raises(ValueError, match="missing"):
        load_crossdna(published / "pytorch_model.bin")


def test_an_old_style_pytorch_file_is_read(published: Path) -> None:
    torch.save(published_tensors(), published / "model.pt", _use_new_zipfile_serialization=False)
    assert same_weights(load_crossdna(published / "model.pt"), load_crossdna(published))


def test_half_precision_weights_become_float32(published: Path) -> None:
    def halve(tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if tensor.is_floating_point():
                tensors[name] = tensor.half()

    model = load_crossdna(edited(published, halve))
    assert {tensor.dtype for name, tensor in model.state_dict().items() if name != "fusion.steps"} == {torch.float32}
    stored = published_tensors()["backbone.out_linear.weight"]
    assert torch.equal(model.lm_head.weight, stored.half().float())
