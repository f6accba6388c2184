"""Loading of models: bundled, from a folder or file, or from the local Hugging Face cache.

A family of models is one folder here with a `family.py` that registers it. A new family needs no other change.
Families in other packages register themselves with `register` or the entry point "crossdna_interpret.families".
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import nn

import crossdna_interpret.models
from crossdna_interpret.models.checkpoints import WEIGHTS, Checkpoint, read_checkpoint
from crossdna_interpret.models.families import Family, families, register
from crossdna_interpret.models.fingerprint import fingerprint
from crossdna_interpret.models.protocols import ModelLike, SequenceModel

__all__ = [
    "DEFAULT",
    "Family",
    "list_models",
    "load_model",
    "model_card",
    "model_summary",
    "register",
    "resolve_model",
    "summary_of",
]

DEFAULT = "retina-enhancer"
Precision = Literal["float32", "float64"]
_BUNDLED = Path(__file__).resolve().parents[1] / "assets" / "models"


def list_models() -> list[str]:
    """Names of the bundled models. The first is the default.

    Example:
        >>> list_models()
        ['retina-enhancer', 'yeast-promoter']
    """
    names = sorted(path.name for path in _BUNDLED.iterdir() if (path / "config.json").is_file())
    return sorted(names, key=lambda name: name != DEFAULT)


def model_card(name: str = DEFAULT) -> str:
    """The model card of a bundled model, as Markdown.

    Example:
        >>> "Limits" in model_card("retina-enhancer")
        True
    """
    return (_bundled(name) / "README.md").read_text(encoding="utf-8")


def model_summary(name: str = DEFAULT) -> str:
    """What a bundled model predicts, in a sentence or two: the first paragraph of its card.

    Example:
        >>> "mouse retina" in model_summary("retina-enhancer")
        True
    """
    paragraphs = model_card(name).split("\n\n")
    first = next(each for each in paragraphs if each.strip() and not each.lstrip().startswith(("---", "#")))
    return " ".join(first.split())


def summary_of(model: SequenceModel) -> str:
    """`model_summary` of a bundled model, and "" for every other model, also one with the same name."""
    if model.name not in list_models():
        return ""
    own = fingerprint(cast(nn.Module, load_model(model.name))).digest
    return model_summary(model.name) if fingerprint(cast(nn.Module, model)).digest == own else ""


def load_model(
    source: str | Path | None = None,
    *,
    dtype: Precision = "float32",
    device: str | torch.device = "cpu",
    backend: str = "auto",
) -> SequenceModel:
    """Load a model in evaluation mode and without parameter gradients. It never uses the network.

    Args:
        source: one of: the name of a bundled model (None is the default); a folder or weights file in a published
            layout or in the format of this package; a Hugging Face id ("owner/name") in the local cache.
        dtype: "float32", or "float64" for reference computations.
        device: device for the model, such as "cuda".
        backend: implementation of the recurrence. "torch" is plain PyTorch. A family may support kernels of other
            packages: CrossDNA supports "fla" (flash-linear-attention, CUDA, float32). "auto" is the fastest that can
            run.

    Raises:
        ValueError: an unknown name (the message lists near matches), dtype, device or backend, or an invalid
            checkpoint.
        FileNotFoundError: there is no model at the path.
        RuntimeError: the `backend` or the CUDA `device` is not available here.

    Example:
        >>> load_model().targets
        ('log2_activity',)
    """
    if dtype not in get_args(Precision):
        raise ValueError(f"`dtype` must be one of {get_args(Precision)}, but got {dtype!r}.")
    known = ("auto", "torch", *sorted({each for family in families() for each in family.backends}))
    if backend not in known:
        raise ValueError(f"`backend` must be one of {known}, but got {backend!r}.")
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f"`device` must be such as 'cpu', 'cuda' or 'cuda:1', but got {device!r}.") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"`device` {str(device)!r} cannot be used: PyTorch sees no CUDA device here.")
    path, name = _resolve(source)
    checkpoint = read_checkpoint(path)
    family = _family_of(checkpoint)
    if backend not in ("auto", "torch", *family.backends):
        raise ValueError(f"`backend` must be 'auto' or 'torch' for a model of {family.name}, but got {backend!r}.")
    model: Any = family.load(checkpoint)
    model.to(device=device, dtype=getattr(torch, dtype))
    if name is not None:
        model.name = name
    if family.set_backend is not None:
        family.set_backend(model, backend)
    loaded: SequenceModel = model
    return _with_different_targets(loaded)


def _with_different_targets(model: SequenceModel) -> SequenceModel:
    names = tuple(model.targets)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"`model` {model.name} must have targets with different names, but has {twice!r} twice.")
    return model


def _family_of(checkpoint: Checkpoint) -> Family:
    for family in families():
        if family.recognises(checkpoint.config):
            return family
    names = ", ".join(sorted(family.name for family in families()))
    what = next((repr(checkpoint.config[key]) for key in ("family", "model_type") if key in checkpoint.config), "none")
    raise ValueError(
        f"`source` {checkpoint.path} is of no known family: its config names {what}. Known families: {names}."
    )


def _bundled(name: str) -> Path:
    names = list_models()
    if name not in names:
        near = difflib.get_close_matches(name, names, cutoff=0.4) or names
        raise ValueError(
            f"`source` {name!r} is neither a bundled model nor a path. Near matches among the bundled models: "
            f"{', '.join(near)}."
        )
    return _BUNDLED / name


def _resolve(source: str | Path | None) -> tuple[Path, str | None]:
    """Path of the model, and its name if the path does not have it: a cached hub model's folder name is a hash."""
    if source is None:
        return _bundled(DEFAULT), None
    if not isinstance(source, (str, Path)):
        raise TypeError(f"`source` must be a name or a path, but got {type(source).__name__}.")
    path = Path(source).expanduser()
    if path.exists():
        return path, None
    text = str(source)
    if isinstance(source, Path) or path.is_absolute() or text.startswith((".", "~")) or path.suffix in _SUFFIXES:
        raise FileNotFoundError(f"`source` {text} does not exist.")
    if text.count("/") == 1:
        return _cached_hub_folder(text), text
    return _bundled(text), None


_SUFFIXES = {Path(name).suffix for name in WEIGHTS}


def _cached_hub_folder(hub_id: str) -> Path:
    problem = "it is not a path, and huggingface_hub, which knows the local cache, is not installed"
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError as error:
        raise FileNotFoundError(f"`source` {hub_id!r} cannot be found: {problem}.") from error
    config = try_to_load_from_cache(hub_id, "config.json")
    if not isinstance(config, str):
        raise FileNotFoundError(
            f"`source` {hub_id!r} is neither a path nor in the local Hugging Face cache. Nothing is downloaded here: "
            f"fetch it first, for example with `hf download`. Bundled models: {', '.join(list_models())}."
        )
    return Path(config).parent


def _import_families() -> None:
    """Import each `family.py` in the folders beside this file, and the families of other packages."""
    package = crossdna_interpret.models
    for result in pkgutil.iter_modules(package.__path__):
        if result.ispkg and (Path(package.__path__[0]) / result.name / "family.py").is_file():
            importlib.import_module(f"{package.__name__}.{result.name}.family")
    for entry in metadata.entry_points(group="crossdna_interpret.families"):
        entry.load()


@functools.lru_cache(maxsize=1)
def _default_model() -> SequenceModel:
    return load_model()


def resolve_model(model: ModelLike) -> SequenceModel:
    """The model for a `model=` argument: a model, a name or path to load, or None for the bundled default."""
    if model is None:
        return _default_model()
    if isinstance(model, (str, Path)):
        return load_model(model)
    if isinstance(model, nn.Module) and isinstance(model, SequenceModel):
        return _with_different_targets(model)
    raise TypeError(
        "`model` must be None, a name or path for load_model, or a torch module with `targets`, `name`, `device` and "
        f"`dtype`, but got {type(model).__name__}."
    )


_import_families()
