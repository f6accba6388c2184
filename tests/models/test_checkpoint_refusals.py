"""Checkpoints that are refused: both layouts are read strictly, and no file is ever executed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from crossdna_interpret.models.crossdna.checkpoint import load_crossdna
from tests.models.published_checkpoint import DEPTH, KEY, PUBLISHED_CONFIG, H, edited, published_tensors

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
