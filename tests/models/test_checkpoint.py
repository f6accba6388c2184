"""Checkpoints: what is saved comes back, both layouts are read strictly, and no file is ever executed."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from crossdna_interpret.models.crossdna.checkpoint import FORMAT, load_crossdna, save_crossdna
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA

Make = Callable[..., CrossDNA]
MakeSequence = Callable[..., str]

# No two widths are the same, so that tensors put in each other's place do not fit.
H, DEPTH, HEADS, D, D_V, TAPS, MLP = 12, 2, 3, 4, 8, 5, 256
KEY, VALUE, KV = HEADS * D, HEADS * D_V, 6
PUBLISHED_CONFIG: dict[str, Any] = {
    "d_model": H, "block_size": 24, "depth": DEPTH, "gate_freeze_steps": 10, "model_type": "crossdna",
    "comba_cfg": {"num_heads": HEADS, "head_dim": D, "expand_v": 2.0, "conv_size": TAPS},
    "transformer_cfg": {"attn": {"num_heads": 2, "num_kv_heads": 1, "window_size": 10}},
}  # fmt: skip


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of a published checkpoint of this config, without the prefix, as the specification lists them."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, rows: int, columns: int, *extra: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (rows, columns, *extra), (rows,)

    def norm(name: str) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (H,), (H,)

    for side in "AB":
        for i in range(DEPTH):
            layer = f"branch{side}_core.layers.{i}"
            for name, rows in {"q": KEY, "k": KEY, "v": VALUE, "g": VALUE, "a": HEADS, "b": HEADS}.items():
                shapes[f"{layer}.comba.{name}_proj.weight"] = (rows, H)
            for name, rows in {"q": KEY, "k": KEY, "v": VALUE}.items():
                shapes[f"{layer}.comba.{name}_conv1d.weight"] = (rows, 1, TAPS)
            shapes |= {f"{layer}.comba.{name}": (HEADS,) for name in ("A_log", "dt_bias", "decay", "D")}
            shapes |= {f"{layer}.comba.o_norm.weight": (D_V,), f"{layer}.comba.o_proj.weight": (H, VALUE)}
            shapes |= {f"{layer}.transformer.{name}.weight": (H,) for name in ("mixer_norm", "mlp_norm")}
            for name, rows in {"q": H, "k": KV, "v": KV, "o": H}.items():
                shapes[f"{layer}.transformer.mixer.{name}_proj.weight"] = (rows, H)
            shapes |= {f"{layer}.transformer.mlp.{name}_proj.weight": (MLP, H) for name in ("gate", "up")}
            shapes[f"{layer}.transformer.mlp.down_proj.weight"] = (H, MLP)
            linear(f"{layer}.gate", H, 2 * H)
            norm(f"{layer}.out_norm")
        norm(f"branch{side}_core.output_norm")
        linear(f"bridge.mix_{side}", H, 5 * H, 1)
        shapes |= {f"bridge.dw_{side}.{i}.weight": (H, 1, 9) for i in range(5)}
        norm(f"bridge.norm{side}")
        linear(f"proj_{side}.linear1", 2 * H, H)
        linear(f"proj_{side}.linear2", H, 2 * H)
    for name in ("proj_B2A", "proj_A2B", "glb_B2A", "glb_A2B"):
        linear(f"bridge.{name}", H, H)
    linear("bridge.gate", 2 * H, 4 * H)
    linear("gate_fuse", H, 2 * H)
    linear("linear", H, 5, 9)
    linear("rc_linear", H, 5, 9)
    linear("out_linear", 5, H)
    return shapes


def published_tensors() -> dict[str, Tensor]:
    """A published checkpoint with random weights, the teacher's copies and the permutation that is no complement."""
    generator = torch.Generator().manual_seed(0)

    def random(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
        return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}

    shapes = published_shapes()
    tensors = random(shapes)
    parts = ("branchA_core", "branchB_core", "bridge")
    taught = {name: shape for name, shape in shapes.items() if name.startswith(parts)}
    tensors |= random({name.replace(part, f"{part}_ema", 1): shape for name, shape in taught.items()
                       for part in parts if name.startswith(f"{part}.")})  # fmt: skip
    tensors["P_comp"] = torch.eye(5).roll(1, 0)
    tensors["g_step"] = torch.tensor([11])
    return {f"backbone.{name}": tensor for name, tensor in tensors.items()}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder in the published layout."""
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(PUBLISHED_CONFIG))
    save_file(published_tensors(), folder / "model.safetensors")
    return folder


@pytest.fixture
def ours(tmp_path: Path, make_model: Make) -> Path:
    """A folder in our layout."""
    model = make_model(targets=("one", "two"))
    model.name = "a name"
    return save_crossdna(model, tmp_path / "ours", card="# A card\n")


def edited(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> Path:
    """The folder, after a change of its tensors."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return folder


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


# Keys that do not fit

PUBLISHED_KEYS = [
    "linear.weight", "branchA_core.layers.0.comba.q_proj.weight", "branchB_core.layers.1.comba.b_proj.weight",
    "branchB_core.layers.0.comba.v_conv1d.weight", "branchA_core.layers.1.transformer.mixer.k_proj.weight",
    "branchA_core.layers.0.transformer.mlp.up_proj.weight", "bridge.dw_A.3.weight", "bridge.mix_B.weight",
    "bridge.gate.bias", "g_step",
]  # fmt: skip
OUR_KEYS = ["stem.conv_forward.weight", "branch_a.layers.0.comba.in_proj.weight", "fusion.steps", "head.linear.bias"]
KEYS = [("published", key) for key in PUBLISHED_KEYS] + [("ours", key) for key in OUR_KEYS]


def stored_as(layout: str, key: str) -> str:
    return f"backbone.{key}" if layout == "published" else key


@pytest.mark.parametrize(("layout", "key"), KEYS)
def test_a_missing_key_is_named(layout: str, key: str, request: pytest.FixtureRequest) -> None:
    folder = edited(request.getfixturevalue(layout), lambda tensors: tensors.pop(stored_as(layout, key)))
    with pytest.raises(ValueError) as caught:
        load_crossdna(folder)
    assert f"1 missing: {key}." in str(caught.value)


@pytest.mark.parametrize(("layout", "key"), KEYS)
def test_a_misshapen_tensor_is_named_with_both_shapes(layout: str, key: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(layout)
    shape = tuple(load_file(folder / "model.safetensors")[stored_as(layout, key)].shape)
    wrong = (shape[0] + 1, *shape[1:])
    folder = edited(folder, lambda tensors: tensors.update({stored_as(layout, key): torch.zeros(wrong)}))
    with pytest.raises(ValueError) as caught:
        load_crossdna(folder)
    assert f"1 of the wrong shape: {key} is {wrong}, expected (" in str(caught.value)


@pytest.mark.parametrize("layout", ["published", "ours"])
@pytest.mark.parametrize("key", ["novel.weight", "bridge.novel", "bridge_emax.gate.bias", "P_comp2"])
def test_an_unknown_key_is_named(layout: str, key: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(layout)
    folder = edited(folder, lambda tensors: tensors.update({stored_as(layout, key): torch.zeros(2)}))
    with pytest.raises(ValueError) as caught:
        load_crossdna(folder)
    assert f"1 unknown: {key}." in str(caught.value)


def test_parts_of_one_matrix_may_not_trade_rows(published: Path) -> None:
    # Together they have the right number of rows.
    def trade(tensors: dict[str, Tensor]) -> None:
        layer = "backbone.branchA_core.layers.0.comba."
        for name, rows in {"q_proj.weight": KEY + 1, "k_proj.weight": KEY - 1}.items():
            tensors[layer + name] = torch.zeros(rows, H)

    with pytest.raises(ValueError, match=r"2 of the wrong shape: .*q_proj\.weight is .*k_proj\.weight is "):
        load_crossdna(edited(published, trade))


@pytest.mark.parametrize("layout", ["published", "ours"])
def test_every_problem_is_listed_at_once(layout: str, request: pytest.FixtureRequest) -> None:
    keys = (PUBLISHED_KEYS if layout == "published" else OUR_KEYS)[:3]

    def spoil(tensors: dict[str, Tensor]) -> None:
        del tensors[stored_as(layout, keys[0])], tensors[stored_as(layout, keys[1])]
        tensors[stored_as(layout, keys[2])] = torch.zeros(3, 3, 3)
        tensors[stored_as(layout, "novel")] = torch.zeros(1)

    with pytest.raises(ValueError) as caught:
        load_crossdna(edited(request.getfixturevalue(layout), spoil))
    message = str(caught.value)
    assert message.startswith("The checkpoint does not fit its config.")
    assert "2 missing: " in message
    assert "1 unknown: novel" in message
    assert "1 of the wrong shape: " in message
    assert all(key in message for key in keys)


def test_a_config_of_another_depth_is_a_list_of_keys(published: Path) -> None:
    (published / "config.json").write_text(json.dumps(PUBLISHED_CONFIG | {"depth": DEPTH + 1}))
    with pytest.raises(ValueError, match=rf"missing: branchA_core\.layers\.{DEPTH}\.comba"):
        load_crossdna(published)
    (published / "config.json").write_text(json.dumps(PUBLISHED_CONFIG | {"use_bridge": False}))
    with pytest.raises(ValueError, match=r"unknown: .*bridge\.gate\.weight"):
        load_crossdna(published)


# Values that no model has


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("layout", "key", "named"),
    [
        ("ours", "branch_b.layers.1.mlp_norm", "branch_b.layers.1.mlp_norm"),
        ("published", "bridge.gate.bias", "bridge.gate.bias"),
        ("published", "branchA_core.layers.0.comba.k_proj.weight", "branch_a.layers.0.comba.in_proj.weight"),
    ],
)
def test_weights_that_are_not_finite_are_named(
    layout: str, key: str, named: str, value: float, request: pytest.FixtureRequest
) -> None:
    def spoil(tensors: dict[str, Tensor]) -> None:
        tensors[stored_as(layout, key)].view(-1)[-1] = value

    folder = edited(request.getfixturevalue(layout), spoil)
    with pytest.raises(ValueError, match=rf"model\.safetensors holds NaN or infinite weights in: {named}\."):
        load_crossdna(folder)


# Files that are something else


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(published: Path, tmp_path: Path) -> None:
    trace, file = tmp_path / "was here", published / "model.pt"
    torch.save({**published_tensors(), "payload": Payload(trace)}, file)
    with pytest.raises(ValueError, match="holds more than tensors and was refused: loading it could run code"):
        load_crossdna(file)
    assert not trace.exists()
    torch.load(file, weights_only=False)
    assert trace.exists()  # it would have run


def test_a_bare_pickle_that_runs_code_is_refused_and_does_not_run(published: Path, tmp_path: Path) -> None:
    trace, file = tmp_path / "was here", published / "pytorch_model.bin"
    file.write_bytes(pickle.dumps({"payload": Payload(trace)}, protocol=2))
    with pytest.raises(ValueError, match="holds more than tensors and was refused"):
        load_crossdna(file)
    assert not trace.exists()
    pickle.loads(file.read_bytes())
    assert trace.exists()


@pytest.mark.parametrize("content", [[torch.zeros(1)], torch.zeros(1), {"a": 3}, {"state_dict": {"a": "b"}}, 3])
def test_a_file_that_is_no_mapping_of_tensors_is_refused(published: Path, content: object) -> None:
    torch.save(content, published / "model.pt")
    with pytest.raises(ValueError, match="must hold a mapping from names to tensors"):
        load_crossdna(published / "model.pt")


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
@pytest.mark.parametrize("content", ["cut", "empty", "text", "zeros", "zip"])
def test_a_corrupt_file_is_refused_by_its_name(published: Path, name: str, content: str) -> None:
    file = published / name
    if name == "model.pt":
        torch.save(published_tensors(), file)
    whole = file.read_bytes()
    spoilt = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"not a model\n" * 9, "zeros": bytes(100),
              "zip": b"PK\x03\x04" + bytes(100)}  # fmt: skip
    file.write_bytes(spoilt[content])
    with pytest.raises(ValueError, match=str(file)):
        load_crossdna(file)


@pytest.mark.parametrize("kept", [0.0001, 0.01, 0.03, 0.5, 0.999])
def test_an_old_style_pytorch_file_cut_anywhere_is_refused_by_its_name(published: Path, kept: float) -> None:
    file = published / "model.pt"
    torch.save(published_tensors(), file, _use_new_zipfile_serialization=False)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ValueError, match=str(file)):
        load_crossdna(file)


@pytest.mark.parametrize("layout", ["published", "ours"])
def test_no_config(layout: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(layout)
    (folder / "config.json").unlink()
    for path in (folder, folder / "model.safetensors"):
        with pytest.raises(FileNotFoundError, match=r"model\.safetensors has no config\.json beside it"):
            load_crossdna(path)


def test_no_weights(published: Path) -> None:
    (published / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"published holds no weights; expected one of model\.safetensors, "):
        load_crossdna(published)


@pytest.mark.parametrize("layout", ["published", "ours"])
@pytest.mark.parametrize("text", ["", "{", '{"d_model": }', "{'d_model': 3}"])
def test_a_config_that_is_not_json_is_refused_by_its_name(
    layout: str, text: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(layout)
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        load_crossdna(folder)


@pytest.mark.parametrize("text", ["[]", "3", '"crossdna"', "null"])
def test_a_config_that_is_no_object_is_refused_by_its_name(published: Path, text: str) -> None:
    (published / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        load_crossdna(published)


@pytest.mark.parametrize("key", ["config", "targets", "name"])
def test_a_key_that_our_config_lacks_is_named(ours: Path, key: str) -> None:
    content = json.loads((ours / "config.json").read_text())
    del content[key]
    (ours / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"config.json.*{key}"):
        load_crossdna(ours)


def test_a_later_format_of_ours_is_not_taken_for_a_published_one(ours: Path) -> None:
    content = json.loads((ours / "config.json").read_text())
    (ours / "config.json").write_text(json.dumps(content | {"format": "crossdna_interpret/2"}))
    with pytest.raises(ValueError, match="format"):
        load_crossdna(ours)


def test_an_unknown_config_key_is_named(published: Path, ours: Path) -> None:
    (published / "config.json").write_text(json.dumps(PUBLISHED_CONFIG | {"novel": 1}))
    with pytest.raises(ValueError, match="unknown key 'novel'"):
        load_crossdna(published)
    content = json.loads((ours / "config.json").read_text())
    content["config"]["novel"] = 1
    (ours / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="unknown key 'novel'"):
        load_crossdna(ours)
