"""Where models come from: bundled with the package, a folder or file, or a hub id whose files are already on disk."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal, get_args

import torch

from crossdna_interpret.models.crossdna.checkpoint import WEIGHTS, load_crossdna
from crossdna_interpret.models.crossdna.comba import Backend, choose_backend
from crossdna_interpret.models.crossdna.model import CrossDNA

__all__ = ["DEFAULT", "list_models", "load_model"]

DEFAULT = "retina-enhancer"
Precision = Literal["float32", "float64"]
_BUNDLED = Path(__file__).resolve().parents[1] / "assets" / "models"


def list_models() -> list[str]:
    """Names of the bundled models; the first is the default.

    Example:
        >>> list_models()
        ['retina-enhancer']
    """
    names = sorted(path.name for path in _BUNDLED.iterdir() if (path / "config.json").is_file())
    return sorted(names, key=lambda name: name != DEFAULT)


def model_card(name: str = DEFAULT) -> str:
    """The card of a bundled model, as Markdown.

    Example:
        >>> "Limits" in model_card("retina-enhancer")
        True
    """
    return (_bundled(name) / "README.md").read_text(encoding="utf-8")


def load_model(
    source: str | Path | None = None,
    *,
    dtype: Precision = "float32",
    device: str | torch.device = "cpu",
    backend: Backend = "auto",
) -> CrossDNA:
    """Load a model, in evaluation mode and without parameter gradients. Never reaches the network.

    Args:
        source: name of a bundled model (None is the default one); a folder or a weights file in the published layout
            or ours; or a Hugging Face id ("owner/name") that is already in the local cache.
        dtype: "float32", or "float64" for reference computations.
        device: where to put it, such as "cuda".
        backend: what computes the recurrence: "torch"; "fla", flash-linear-attention's kernels (CUDA, float32); or
            "auto", which takes fla where it can run.

    Raises:
        ValueError: an unknown name (near matches are listed), dtype or backend, or a checkpoint that does not fit.
        FileNotFoundError: a path without a model.
        RuntimeError: `backend="fla"` or a CUDA `device` where there is none.

    Example:
        >>> load_model().targets
        ('log2_activity',)
    """
    if dtype not in get_args(Precision):
        raise ValueError(f"`dtype` must be one of {get_args(Precision)}, but got {dtype!r}.")
    if backend not in get_args(Backend):
        raise ValueError(f"`backend` must be one of {get_args(Backend)}, but got {backend!r}.")
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"`device` {str(device)!r} cannot be used: PyTorch sees no CUDA device here.")
    path, name = _resolve(source)
    model = load_crossdna(path).to(device=device, dtype=getattr(torch, dtype))
    model.name = name or model.name
    choose_backend(backend, model.lm_head.weight)
    model.set_backend(backend)
    return model


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
    """Where the model is, and its name where its files do not tell: the folder of a cached hub model is a hash."""
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
            "fetch it first, for example with `hf download`."
        )
    return Path(config).parent
