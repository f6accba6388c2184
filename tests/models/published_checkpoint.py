"""A small checkpoint in the published layout: its config, its tensors as the specification lists them, and edits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

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


def edited(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> Path:
    """The folder, after a change of its tensors."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return folder
