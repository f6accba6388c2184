"""CrossDNA weights in the published layout and in the layout of this package.

The published layout is a folder in the style of Hugging Face, with `config.json` and `model.safetensors` (or a PyTorch
file). Its keys start with ``backbone.``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crossdna_interpret.models.checkpoints import (
    Checkpoint,
    check_keys,
    read_checkpoint,
    refuse,
    require_finite,
    write_checkpoint,
)
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA

__all__ = ["FAMILY", "load_crossdna", "save_crossdna"]

FAMILY = "crossdna"

# Published tensors that inference does not need: the teacher of the self-distillation, and a permutation that is not
# the complement.
_SKIPPED = re.compile(r"^(branchA_core_ema|branchB_core_ema|bridge_ema)\.|^P_comp$")


def _published_names(config: CrossDNAConfig) -> Iterator[tuple[str, list[str]]]:
    """For every tensor of the model: (name here, published names whose rows form it, in order)."""
    for side in "AB":
        yield f"branch_{side.lower()}.output_norm.weight", [f"branch{side}_core.output_norm.weight"]
        yield f"branch_{side.lower()}.output_norm.bias", [f"branch{side}_core.output_norm.bias"]
        for index in range(config.depth):
            ours, theirs = f"branch_{side.lower()}.layers.{index}.", f"branch{side}_core.layers.{index}."
            for name, parts in _published_layer(config):
                yield ours + name, [theirs + part for part in parts]
    for name in ("weight", "bias"):
        yield f"stem.conv_forward.{name}", [f"linear.{name}"]
        yield f"stem.conv_reverse.{name}", [f"rc_linear.{name}"]
        yield f"lm_head.{name}", [f"out_linear.{name}"]
        yield f"fusion.gate.{name}", [f"gate_fuse.{name}"]
        for side in "AB":
            for linear in ("linear1", "linear2"):
                yield f"fusion.project_{side.lower()}.{linear}.{name}", [f"proj_{side}.{linear}.{name}"]
    yield "fusion.steps", ["g_step"]
    if config.use_bridge:
        yield from _published_bridge()


def _published_layer(config: CrossDNAConfig) -> Iterator[tuple[str, list[str]]]:
    comba = "comba."
    rows = ("q_proj", "k_proj", "v_proj", "g_proj", "a_proj", "b_proj")
    yield comba + "in_proj.weight", [f"{comba}{row}.weight" for row in rows]
    if config.conv_size is not None:
        yield comba + "conv", [f"{comba}{row}_conv1d.weight" for row in "qkv"]
    for name in ("A_log", "dt_bias", "decay", "D"):
        yield comba + name, [comba + name]
    yield comba + "o_norm", [comba + "o_norm.weight"]
    yield comba + "o_proj.weight", [comba + "o_proj.weight"]
    yield "mixer_norm", ["transformer.mixer_norm.weight"]
    yield "mlp_norm", ["transformer.mlp_norm.weight"]
    yield "attention.qkv_proj.weight", [f"transformer.mixer.{row}_proj.weight" for row in "qkv"]
    yield "attention.o_proj.weight", ["transformer.mixer.o_proj.weight"]
    yield "mlp.gate_up_proj.weight", ["transformer.mlp.gate_proj.weight", "transformer.mlp.up_proj.weight"]
    yield "mlp.down_proj.weight", ["transformer.mlp.down_proj.weight"]
    for name in ("weight", "bias"):
        yield f"gate.{name}", [f"gate.{name}"]
        yield f"out_norm.{name}", [f"out_norm.{name}"]


def _published_bridge() -> Iterator[tuple[str, list[str]]]:
    pairs = {"gate": "gate", "norm_a": "normA", "norm_b": "normB"}
    pairs |= {"project_b_to_a": "proj_B2A", "project_a_to_b": "proj_A2B"}
    pairs |= {"pool_b_to_a": "glb_B2A", "pool_a_to_b": "glb_A2B"}
    pairs |= {"context_of_a.mix": "mix_A", "context_of_b.mix": "mix_B"}
    for ours, theirs in pairs.items():
        for name in ("weight", "bias"):
            yield f"bridge.{ours}.{name}", [f"bridge.{theirs}.{name}"]
    for side in "AB":
        for index in range(5):
            yield f"bridge.context_of_{side.lower()}.convs.{index}.weight", [f"bridge.dw_{side}.{index}.weight"]


def _row_counts(config: CrossDNAConfig) -> dict[str, list[int]]:
    """Number of rows of each published part of a joined matrix. Error messages can then name a misshapen part."""
    key, value = config.comba_heads * config.comba_head_dim, config.comba_heads * config.comba_value_dim
    dim = config.d_model // config.attention_heads * config.key_value_heads
    return {
        "comba.in_proj.weight": [key, key, value, value, config.comba_heads, config.comba_heads],
        "comba.conv": [key, key, value],
        "attention.qkv_proj.weight": [config.d_model, dim, dim],
        "mlp.gate_up_proj.weight": [config.mlp_width, config.mlp_width],
    }


def _from_published(stored: Mapping[str, Tensor], model: CrossDNA) -> dict[str, Tensor]:
    """Rename published tensors to the names here. The error for missing, unknown or misshapen keys lists all."""
    bare = {key.removeprefix("backbone."): value for key, value in stored.items()}
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    rows = _row_counts(model.config)
    result: dict[str, Tensor] = {}
    used: set[str] = set()
    missing, misshapen = [], []
    for ours, parts in _published_names(model.config):
        shape = expected[ours]
        counts = next((count for suffix, count in rows.items() if ours.endswith(suffix)), [shape[0]])
        tensors = []
        for part, count in zip(parts, counts, strict=True):
            used.add(part)
            if part not in bare:
                missing.append(part)
            elif _squeezed(bare[part].shape) != _squeezed(torch.Size([count, *shape[1:]])):
                misshapen.append(f"{part} is {tuple(bare[part].shape)}, expected {(count, *shape[1:])}")
            else:
                tensors.append(bare[part])
        if len(tensors) == len(parts):
            result[ours] = torch.cat(tensors).reshape(shape)
    unknown = [key for key in bare if key not in used and not _SKIPPED.match(key)]
    refuse(missing, unknown, misshapen)
    return result


def _squeezed(shape: torch.Size) -> list[int]:
    """Shape without trailing axes of size 1: a 1x1 convolution is a matrix."""
    sizes = list(shape)
    while len(sizes) > 1 and sizes[-1] == 1:
        sizes.pop()
    return sizes


def load_crossdna(source: str | Path | Checkpoint) -> CrossDNA:
    """Load a CrossDNA model in either layout, on the CPU, in float32 and in evaluation mode.

    Args:
        source: a folder with `config.json` and weights, a weights file with `config.json` beside it, or a result of
            `read_checkpoint`.

    Raises:
        FileNotFoundError: weights or config are missing.
        ValueError: an unknown config key, missing, unknown or misshapen tensors, weights that are not finite, or a
            file that holds something besides tensors.
    """
    checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
    # Ignore the caller's default device and inference mode, because the model may be used outside them later.
    # The initial weights are random numbers, which must not change the caller's.
    with torch.device("cpu"), torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        return _loaded(checkpoint)


def _loaded(checkpoint: Checkpoint) -> CrossDNA:
    tensors, stored = checkpoint.tensors(), checkpoint.config
    if checkpoint.ours:
        model = CrossDNA(CrossDNAConfig.from_dict(stored["config"]), stored["targets"])
        model.name = stored["name"]
        model.training_range = checkpoint.training_range()
        model.change_errors = checkpoint.change_errors()
        state = check_keys(tensors, model.state_dict())
    else:
        model = CrossDNA(CrossDNAConfig.from_published(stored))
        model.name = checkpoint.stem
        state = _from_published(tensors, model)
    require_finite(state, checkpoint.weights)
    model.load_state_dict(state, strict=True)
    return model.eval().requires_grad_(False)


def save_crossdna(
    model: CrossDNA, folder: str | Path, *, card: str, provenance: Mapping[str, Any] | None = None
) -> Path:
    """Write a model in the layout of this package. Loading it gives bit-identical weights (in float32).

    Args:
        model: the model. `model.name` and `model.targets` are stored with it.
        folder: folder to write to. It is created if it does not exist.
        card: the model card in Markdown, written to `README.md`.
        provenance: JSON-ready facts about the origin of the weights, stored in `config.json`.

    Returns:
        The folder.
    """
    return write_checkpoint(
        folder,
        family=FAMILY,
        name=model.name,
        targets=[] if model.head is None else list(model.targets),
        config=model.config.to_dict(),
        training_range=model.training_range,
        change_errors=model.change_errors,
        provenance=provenance or {},
        state=model.state_dict(),
        card=card,
    )
