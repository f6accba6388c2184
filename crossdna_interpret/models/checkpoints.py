"""Reading and writing checkpoints of any family: strict, and no code in a checkpoint is ever executed.

A checkpoint is a folder with `config.json` and weights, or a weights file with `config.json` beside it. Our own format
has in `config.json` the family, the name, the targets, the model's config, the training range and how the weights came
to be; the weights in `model.safetensors`; and the model card in `README.md`.
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
    """A checkpoint whose config has been read, and its weights not yet.

    Attributes:
        path: as it was given.
        config: content of `config.json`.
        weights: the file of weights.
    """

    path: Path
    config: Mapping[str, Any]
    weights: Path

    @property
    def ours(self) -> bool:
        """Whether it is in our own format."""
        return self.config.get("format") == FORMAT

    @property
    def stem(self) -> str:
        """A name for a model whose config has none: that of the folder or of the file."""
        place = self.path.resolve()
        return place.name if place.is_dir() else place.stem

    def tensors(self) -> dict[str, Tensor]:
        """The weights by name, on the CPU.

        Raises:
            ValueError: a file that is damaged, or that holds more than tensors.
        """
        return _read_tensors(self.weights)

    def training_range(self) -> TrainingRange | None:
        """What the model was trained on, if the config says so."""
        stored = self.config.get("training_range")
        return None if stored is None else TrainingRange.from_dict(stored)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Find a checkpoint's files and read its config.

    Args:
        path: a folder, or a weights file.

    Raises:
        FileNotFoundError: no weights or no config there.
        ValueError: a config that is no JSON object, or of our format and lacks a key.
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
    """The stored tensors, if they are those expected.

    Args:
        stored: tensors by name.
        expected: those of the model, such as its `state_dict()`.

    Raises:
        ValueError: names that are missing or unknown, or shapes that differ; each is listed.
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
    """Refuse a checkpoint, if there is any reason to.

    Raises:
        ValueError: a list is not empty.
    """
    problems = {"missing": missing, "unknown": unknown, "of the wrong shape": misshapen}
    lines = [f"{len(keys)} {what}: {'; '.join(keys)}" for what, keys in problems.items() if keys]
    if lines:
        raise ValueError("The checkpoint does not fit its config. Keys " + ". Keys ".join(lines) + ".")


def require_finite(state: Mapping[str, Tensor], weights: Path) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        ValueError: with their names.
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
    provenance: Mapping[str, Any],
    state: Mapping[str, Tensor],
    card: str,
) -> Path:
    """Write a model in our format.

    Args:
        folder: made if it does not exist.
        family: name of the model's family.
        name: of the model.
        targets: names of its outputs.
        config: JSON-ready, what the family needs to build it.
        training_range: what it was trained on, if that is known.
        provenance: JSON-ready facts about how the weights came to be.
        state: the weights.
        card: the model card, Markdown.

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
    except Exception as error:  # what a damaged file raises depends on where it is damaged
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
