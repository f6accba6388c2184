"""Reading and writing checkpoints of any family. Checks are strict, and code in a checkpoint is never executed.

A checkpoint is a folder with `config.json` and weights, or a weights file with `config.json` beside it. The format of
this package has three files:

    config.json          family, name, targets, config of the model, training range and origin of the weights
    model.safetensors    weights
    README.md            model card
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from crossdna_interpret.models.change_errors import ChangeErrors
from crossdna_interpret.models.training_range import TrainingRange

__all__ = [
    "FORMAT",
    "WEIGHTS",
    "Checkpoint",
    "check_keys",
    "read_checkpoint",
    "refuse",
    "require_finite",
    "write_checkpoint",
]

FORMAT = "crossdna_interpret/1"
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.pt", "model.pth", "model.ckpt")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint: its config is loaded, its weights are not loaded yet.

    Attributes:
        path: path from the caller.
        config: content of `config.json`.
        weights: path of the weights file.
    """

    path: Path
    config: Mapping[str, Any]
    weights: Path

    @property
    def ours(self) -> bool:
        """Whether the checkpoint has the format of this package."""
        return self.config.get("format") == FORMAT

    @property
    def stem(self) -> str:
        """Name of the folder or file. It names a model whose config has no name."""
        place = self.path.resolve()
        return place.name if place.is_dir() else place.stem

    def tensors(self) -> dict[str, Tensor]:
        """The weights by name, on the CPU.

        Raises:
            ValueError: the file is damaged or holds something besides tensors.
        """
        return _read_tensors(self.weights)

    def training_range(self) -> TrainingRange | None:
        """Range of the training sequences, or None if the config has none."""
        stored = self.config.get("training_range")
        return None if stored is None else TrainingRange.from_dict(stored)

    def change_errors(self) -> dict[str, ChangeErrors]:
        """Errors of predicted changes, by target. Empty if the config has none."""
        stored = self.config.get("change_errors", {})
        return {target: ChangeErrors.from_dict(values) for target, values in stored.items()}


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Find a checkpoint's files and read its config.

    Args:
        path: a folder, or a weights file.

    Raises:
        FileNotFoundError: weights or config are missing.
        ValueError: the config is not a JSON object, or has the format of this package but lacks a key.
    """
    place, weights = _locate(Path(path))
    try:
        config: Any = json.loads(place.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{place} is not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{place} must hold a JSON object, but holds {config!r}.")
    result = Checkpoint(Path(path), config, weights)
    lacking = [key for key in ("name", "targets", "config") if result.ours and key not in config]
    if lacking:
        raise ValueError(f"{place} lacks the keys {lacking}.")
    return result


def check_keys(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Check the names and shapes of the stored tensors and return them.

    Args:
        stored: tensors by name.
        expected: tensors of the model, such as its `state_dict()`.

    Raises:
        ValueError: missing or unknown names, or wrong shapes. The message lists all of them.
    """
    missing = [key for key in expected if key not in stored]
    unknown = [key for key in stored if key not in expected]
    misshapen = [
        f"{key} is {tuple(stored[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in expected
        if key in stored and stored[key].shape != expected[key].shape
    ]
    refuse(missing, unknown, misshapen)
    return dict(stored)


def refuse(missing: list[str], unknown: list[str], misshapen: list[str]) -> None:
    """Raise an error if the checkpoint has any missing, unknown or misshapen tensors.

    Raises:
        ValueError: one of the lists is not empty.
    """
    problems = {"missing": missing, "unknown": unknown, "of the wrong shape": misshapen}
    lines = [f"{len(keys)} {what}: {'; '.join(keys)}" for what, keys in problems.items() if keys]
    if lines:
        raise ValueError("The checkpoint does not fit its config. Keys " + ". Keys ".join(lines) + ".")


def require_finite(state: Mapping[str, Tensor], weights: Path) -> None:
    """Check that all weights are finite.

    Raises:
        ValueError: NaN or infinite weights. The message has their names.
    """
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ValueError(f"{weights} holds NaN or infinite weights in: {', '.join(broken)}.")


def write_checkpoint(
    folder: str | Path,
    *,
    family: str,
    name: str,
    targets: list[str],
    config: Mapping[str, Any],
    training_range: TrainingRange | None,
    change_errors: Mapping[str, ChangeErrors] | None = None,
    provenance: Mapping[str, Any],
    state: Mapping[str, Tensor],
    card: str,
) -> Path:
    """Write a model in the format of this package.

    Args:
        folder: folder to write to. It is created if it does not exist.
        family: name of the model's family.
        name: name of the model.
        targets: names of its outputs.
        config: JSON-ready values from which the family builds the model.
        training_range: range of the training sequences, if it is known.
        change_errors: errors of predicted changes, by target, if they are known.
        provenance: JSON-ready facts about the origin of the weights.
        state: the weights.
        card: the model card in Markdown.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "family": family,
        "name": name,
        "targets": targets,
        "config": dict(config),
        **({} if training_range is None else {"training_range": training_range.to_dict()}),
        **({"change_errors": {name: each.to_dict() for name, each in change_errors.items()}} if change_errors else {}),
        "provenance": dict(provenance),
    }
    save_file({key: value.detach().cpu().contiguous() for key, value in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors and was refused: loading it could run code. Save it as safetensors. "
            f"({str(error).splitlines()[0]})"
        ) from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # damaged files raise many kinds of errors
        raise ValueError(f"{path} is not a readable PyTorch file: {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} must hold a mapping from names to tensors.")
    return dict(content)


def _locate(path: Path) -> tuple[Path, Path]:
    """(config file, weights file) of a folder or of a weights file."""
    if path.is_dir():
        weights = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
        if weights is None:
            raise FileNotFoundError(f"{path} holds no weights; expected one of {', '.join(WEIGHTS)}.")
    else:
        weights = path
    config = weights.parent / "config.json"
    if not config.is_file():
        raise FileNotFoundError(f"{weights} has no config.json beside it, which gives the model its shape.")
    return config, weights
