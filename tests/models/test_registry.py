"""load_model: valid names, paths and ids, and errors for others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

import crossdna_interpret as cdi
from crossdna_interpret.models import registry as store
from crossdna_interpret.models.crossdna.checkpoint import save_crossdna
from crossdna_interpret.models.crossdna.comba import Comba
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.registry import list_models, load_model, model_card

Make = Callable[..., CrossDNA]


@pytest.fixture
def folder(tmp_path: Path, make_model: Make) -> Path:
    """A saved model."""
    return save_crossdna(make_model(), tmp_path / "saved", card="# Saved\n")


def test_the_default_is_bundled_and_first() -> None:
    names = list_models()
    assert names[0] == store.DEFAULT
    assert len(set(names)) == len(names)


def test_list_models_puts_the_default_first_and_skips_what_is_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("zebra", "aardvark", store.DEFAULT, "unfinished"):
        (tmp_path / name).mkdir()
        if name != "unfinished":
            (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("")
    monkeypatch.setattr(store, "_BUNDLED", tmp_path)
    assert list_models() == [store.DEFAULT, "aardvark", "zebra"]


@pytest.mark.parametrize("name", list_models())
def test_every_bundled_model_loads_and_has_a_card(name: str) -> None:
    model = load_model(name)
    assert not model.training
    assert model.name == name
    assert len(model.targets) >= 1
    assert f"\n# {name}\n" in f"\n{model_card(name)}"


def test_no_source_is_the_default() -> None:
    named, unnamed = load_model(store.DEFAULT), load_model()
    assert unnamed.name == store.DEFAULT
    assert all(torch.equal(named.state_dict()[key], tensor) for key, tensor in unnamed.state_dict().items())


@pytest.mark.parametrize("call", [load_model, model_card])
def test_an_unknown_name_lists_near_matches(call: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match=rf"`source` 'retina-enhancr' is neither.*Near matches.*{store.DEFAULT}"):
        call("retina-enhancr")


def test_a_name_like_no_other_lists_every_model() -> None:
    with pytest.raises(ValueError) as caught:
        load_model("0000")
    assert all(name in str(caught.value) for name in list_models())


@pytest.mark.parametrize("dtype", ["float16", "double", torch.float32, None])
def test_an_unknown_dtype_lists_the_known_ones(folder: Path, dtype: object) -> None:
    with pytest.raises(ValueError, match=r"`dtype` must be one of \('float32', 'float64'\), but got "):
        load_model(folder, dtype=dtype)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["cuda", "FLA", None])
def test_an_unknown_backend_lists_the_known_ones(folder: Path, backend: object) -> None:
    with pytest.raises(ValueError, match=r"`backend` must be one of \('auto', 'torch', 'fla'\), but got "):
        load_model(folder, backend=backend)  # type: ignore[arg-type]


def test_fla_on_the_cpu_is_refused_with_the_reason(folder: Path) -> None:
    with pytest.raises(RuntimeError, match=r"`backend`='fla' cannot be used: .*CUDA"):
        load_model(folder, backend="fla")


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_the_backend_reaches_every_layer(folder: Path, backend: store.Backend) -> None:
    model = load_model(folder, backend=backend)
    assert {module.backend for module in model.modules() if isinstance(module, Comba)} == {backend}


@pytest.mark.parametrize("as_type", [str, Path])
@pytest.mark.parametrize("part", [".", "model.safetensors"])
def test_folders_and_files_load_by_path(
    folder: Path, make_model: Make, part: str, as_type: Callable[[Path], str | Path]
) -> None:
    model = load_model(as_type(folder / part))
    expected = make_model().state_dict()
    assert all(torch.equal(expected[key], tensor) for key, tensor in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


def test_a_relative_path_is_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert load_model(folder.name).targets == ("activity",)
    assert load_model(f"./{folder.name}").targets == ("activity",)


def test_a_home_path_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load_model(f"~/{folder.name}").targets == ("activity",)


def test_float64_is_the_float32_weights_exactly(folder: Path) -> None:
    single, double = load_model(folder), load_model(folder, dtype="float64")
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    for key, tensor in double.state_dict().items():
        assert torch.equal(tensor, single.state_dict()[key].to(tensor.dtype))
    assert double.fusion.steps.dtype == torch.int64  # a counter, not a weight


def test_device_is_where_it_is_put(folder: Path) -> None:
    assert load_model(folder, device="cpu").device == torch.device("cpu")
    assert load_model(folder, device=torch.device("meta")).device == torch.device("meta")


@pytest.mark.parametrize(
    "source",
    ["/no/such/folder", "./nowhere", "../nowhere", "~/nowhere-at-all", "weights.safetensors", "a/weights.pt",
     Path("nowhere"), Path("owner/name")],
    ids=str,
)  # fmt: skip
def test_a_path_that_does_not_exist_is_named(source: str | Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"`source` {source} does not exist"):
        load_model(source)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} holds no weights"):
        load_model(tmp_path)


@pytest.mark.parametrize("source", [3, ["retina-enhancer"], b"retina-enhancer"])
def test_a_source_of_another_type_is_refused(source: object) -> None:
    with pytest.raises(TypeError, match=f"`source` must be a name or a path, but got {type(source).__name__}"):
        load_model(source)  # type: ignore[arg-type]


# Hub ids: only what is already on disk


def test_a_hub_id_without_huggingface_hub_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # None makes an import fail
    with pytest.raises(
        FileNotFoundError, match=r"`source` 'owner/name' cannot be found: .*huggingface_hub.*not installed"
    ):
        load_model("owner/name")


def hub(monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    """A huggingface_hub that knows the cache and nothing else, so that any other call would fail."""
    module = ModuleType("huggingface_hub")
    module.try_to_load_from_cache = lambda repo_id, filename: answer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)


@pytest.mark.parametrize("answer", [None, object()])  # not in the cache; known there to be missing
def test_a_hub_id_that_is_not_on_disk_is_not_downloaded(monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    hub(monkeypatch, answer)
    with pytest.raises(FileNotFoundError, match=r"'owner/name-8\.1M' is neither.*Nothing is downloaded"):
        load_model("owner/name-8.1M")


def test_a_hub_id_on_disk_is_loaded(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    hub(monkeypatch, str(folder / "config.json"))
    model = load_model("owner/name")
    assert model.targets == ("activity",)
    assert model.name == "owner/name"  # its folder in the cache is named by a hash


def test_public_names_exist() -> None:
    assert all(hasattr(store, name) for name in store.__all__)


@pytest.mark.parametrize("name", list_models())
def test_a_bundled_model_is_small_and_knows_its_training(name: str) -> None:
    folder = store._BUNDLED / name
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 4 * 2**20
    model = load_model(name)
    assert sum(p.numel() for p in model.parameters()) <= 1e6
    assert model.training_range is not None


def test_only_a_bundled_model_has_its_summary() -> None:
    model = load_model()
    assert "mouse retina" in store.summary_of(model)
    with torch.no_grad():
        model.head.linear.bias.add_(1)  # type: ignore[attr-defined]
    assert store.summary_of(model) == ""
    assert store.summary_of(cdi.wrap(torch.nn.Flatten(), targets=["y"])) == ""
