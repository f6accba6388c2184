"""The hash of a model changes with everything that affects its scores, and with nothing else."""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import importlib
import operator
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.special
import torch
from torch import Tensor, nn

import crossdna_interpret as cdi
from crossdna_interpret.models.fingerprint import fingerprint
from tests.nets import Net, wrapped


def test_weights_are_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Linear(100, 100)
    expected = fingerprint(net)
    hashed: list[int] = []
    real = hashlib.sha256

    def counted(*data: Any) -> Any:
        hashed.extend(len(each) for each in data)
        return real(*data)

    monkeypatch.setattr(hashlib, "sha256", counted)
    assert fingerprint(net) == expected
    assert max(hashed, default=0) < 4 * 100  # nothing as large as the smallest of the weights


def test_capturing_makes_no_other_model_and_editing_does(make_model: Callable) -> None:
    model = make_model(depth=1)
    plain = cdi.ism("ACGTTGCAAGGC", model, end=2).certificate.model_hash
    with cdi.capture(model, "bridge.*"):
        assert cdi.ism("ACGTTGCAAGGC", model, end=2).certificate.model_hash == plain
    with cdi.intervene(model, {"bridge.out_a": lambda value, where: 2 * value}):
        assert cdi.ism("ACGTTGCAAGGC", model, end=2).certificate.model_hash != plain
    assert cdi.ism("ACGTTGCAAGGC", model, end=2).certificate.model_hash == plain


SCALE = 1.0


POOL = {"how": "mean"}


def pooled(scores: Tensor) -> Tensor:
    return scores.mean(2) if POOL["how"] == "mean" else scores.amax(2)


class WithGlobals(nn.Module):
    """Uses a global, a function beside it, a class attribute, and a name of its own."""

    powers: ClassVar[dict[str, int]] = {"all": 1}

    name = "relu"

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv1d(4, 2, 3)
        self.inner = nn.Module()
        self.inner.name = self.name

    def forward(self, x: Tensor) -> Tensor:
        act = torch.relu if self.inner.name == "relu" else torch.tanh
        return SCALE * pooled(act(self.conv(x)))[:, :1] ** self.powers["all"]


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setitem(globals(), "SCALE", 2.0),
        lambda patch: patch.setitem(POOL, "how", "max"),
        lambda patch: patch.setitem(WithGlobals.powers, "all", 2),
        lambda patch: patch.setattr(WithGlobals, "name", "tanh"),
    ],
    ids=["a global", "what a function uses", "a class attribute", "a name of a submodule"],
)
def test_what_methods_use_counts(change: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(WithGlobals())
    assert fingerprint(WithGlobals()) == before
    change(monkeypatch)
    assert fingerprint(WithGlobals()) != before


def test_modules_and_tensors_in_functions_count() -> None:
    head, other = nn.Linear(2, 1), nn.Linear(2, 1)
    weights = torch.ones(2)
    prints = {
        fingerprint(wrapped(Net(), output=output)).digest
        for output in (
            lambda scores: head(scores),
            lambda scores: other(scores),
            head.forward,
            other.forward,
            lambda scores: scores * weights,
        )
    }
    assert len(prints) == 5
    weights.data.mul_(2)
    assert fingerprint(wrapped(Net(), output=lambda scores: scores * weights)).digest not in prints


@pytest.mark.slow
def test_hashes_are_the_same_in_every_process() -> None:
    code = (
        "from torch import nn\n"
        "import torch\n"
        "from crossdna_interpret.models.fingerprint import fingerprint\n"
        "class Act(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x.relu() if self.kind in {'relu', 'gelu', 'tanh', 'elu'} else x\n"
        "print(fingerprint(Act()).digest)\n"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, **CAPTURED).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert len(runs[0].strip()) == 64


CAPTURED: dict[str, Any] = {"capture_output": True, "text": True, "check": True}


def test_what_a_forward_pass_writes_makes_no_other_model(tmp_path: Path) -> None:
    class Counting(Net):
        def __init__(self) -> None:
            super().__init__()
            self.calls, self.last, self.recurrent = 0, None, nn.GRU(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.last = super().forward(x)
            return self.last

    model = wrapped(Counting()).eval()
    with pytest.warns(cdi.CacheWarning, match=r"module.calls, (model.)?module.last of Counting"):
        averaged = cdi.ism("ACGTTGCAAGGC", model, cache=tmp_path, rc_average=True)
    again = cdi.ism("ACGTTGCAAGGC", model)
    assert averaged.certificate.model_hash == again.certificate.model_hash
    np.testing.assert_array_equal(again.predictions, averaged.orientations[0].predictions)


def test_checksums_see_signs_that_flip_in_pairs() -> None:
    weights = nn.Parameter(torch.randn(2, 4093, dtype=torch.float64))
    net = nn.Module()
    net.weights = weights
    before = fingerprint(net)
    weights.data.neg_()
    assert fingerprint(net) != before


@dataclasses.dataclass
class Config:
    """Settings, as many models have them."""

    scale: float


class Configured(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv1d(4, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.config.scale * self.conv(x)).mean(2)[:, :1]


def configured(config: Any) -> nn.Module:
    return cdi.wrap(Configured(config))


class InADict(Configured):
    """Whose settings stand beside what a forward pass writes."""

    def forward(self, x: Tensor) -> Tensor:
        self.config["calls"] += 1
        return torch.tanh(self.config["scale"] * self.conv(x)).mean(2)[:, :1]


class Settings(dict):  # type: ignore[type-arg]
    """A dict with attributes."""


def with_attribute(value: float) -> Settings:
    settings = Settings()
    settings.scale = value  # type: ignore[attr-defined]
    return settings


ALIKE: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "a dataclass": (lambda: configured(Config(1.0)), lambda: configured(Config(2.0))),
    "a dict's attribute": (lambda: configured(with_attribute(1.0)), lambda: configured(with_attribute(2.0))),
    "an item": (
        lambda: wrapped(output=operator.itemgetter((slice(None), slice(0, 1)))),
        lambda: wrapped(output=operator.itemgetter((slice(None), slice(1, 2)))),
    ),
    "a cached function": (
        lambda: wrapped(output=functools.lru_cache(lambda scores: scores[:, :1])),
        lambda: wrapped(output=functools.lru_cache(lambda scores: scores[:, 1:])),
    ),
}


@pytest.mark.parametrize("case", ALIKE)
def test_settings_in_objects_count(case: str, tmp_path: Path) -> None:
    for make in (*ALIKE[case], *ALIKE[case]):
        model = make()
        plain = cdi.ism("ACGTTGCAAGGC", model).predictions
        np.testing.assert_array_equal(cdi.ism("ACGTTGCAAGGC", model, cache=tmp_path).predictions, plain)
    assert len({fingerprint(make()).digest for make in ALIKE[case]}) == 2
    assert fingerprint(ALIKE[case][0]()) == fingerprint(ALIKE[case][0]())


def test_callable_objects_of_libraries_count() -> None:
    prints = {fingerprint(wrapped(output=np.poly1d([factor, 0]))).digest for factor in (1.0, 2.0)}
    assert len(prints) == 2


class Lazy(nn.Module):
    """Sets its scale from the first data, if it has none."""

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        self.scale = 1.0 if self.scale is None else self.scale
        return self.scale * x[:, 0].mean(1)


class Restarting(nn.Module):
    """Whose norm computes in training mode whatever the mode of the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        self.norm.train()
        return self.norm(x).mean((1, 2))


def normed(mean: float) -> nn.Module:
    net = nn.Sequential(nn.BatchNorm1d(4), nn.Tanh(), nn.Flatten(), nn.Linear(48, 1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        nn.init.normal_(net[3].weight)
    net[0].running_mean.fill_(mean)
    return net.eval()


def test_what_one_model_writes_counts_in_others_of_its_class(tmp_path: Path) -> None:
    with pytest.warns(cdi.UnstableModelWarning):
        cdi.predict(["ACGTTGCAAGGC"] * 2, cdi.wrap(Restarting().eval()))
    cdi.predict(["ACGTTGCAAGGC"] * 2, cdi.wrap(Lazy()))
    for make in (lambda: Lazy(3.0), lambda: Lazy(2.0), lambda: normed(0.0), lambda: normed(0.5)):
        model = cdi.wrap(make())
        kept = cdi.ism("ACGTTGCAAGGC", model, cache=tmp_path)
        np.testing.assert_array_equal(kept.predictions, cdi.ism("ACGTTGCAAGGC", model).predictions)
    assert fingerprint(normed(0.0)) != fingerprint(normed(0.5))


class Base:
    scale = 1.0


class Derived(Base):
    """Whose settings stand in its base."""


class Mode(enum.Enum):
    PLAIN = 1.0


def test_bases_and_values_count(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs: dict[str, Callable[[], Callable[..., Any]]] = {
        "a class": lambda: lambda scores: Derived.scale * scores,
        "an object": lambda: (lambda settings: lambda scores: settings.scale * scores)(Derived()),
        "a value": lambda: lambda scores: Mode.PLAIN.value * scores,
    }
    before = {name: fingerprint(wrapped(output=make())).digest for name, make in outputs.items()}
    monkeypatch.setattr(Base, "scale", 2.0)
    monkeypatch.setattr(Mode.PLAIN, "_value_", 3.0)
    after = {name: fingerprint(wrapped(output=make())).digest for name, make in outputs.items()}
    assert all(before[name] != after[name] for name in outputs)


def test_functions_that_bear_the_name_of_a_librarys_count() -> None:
    def make(factor: float) -> Callable[..., Any]:
        return functools.wraps(np.mean)(lambda scores: factor * scores)

    assert len({fingerprint(wrapped(output=make(factor))).digest for factor in (1.0, 2.0)}) == 2


@pytest.mark.parametrize("width", [4093, 8186, 16372, 1024])
def test_rows_that_change_places_are_seen(width: int) -> None:
    net = nn.Module()
    net.weight = nn.Parameter(torch.randn(40, width))
    before = fingerprint(net)
    rows = net.weight.data.numpy()
    rows[[3, 4]] = rows[[4, 3]]
    assert fingerprint(net) != before


def test_settings_beside_what_is_written_are_not_kept(tmp_path: Path) -> None:
    for scale in (1.0, 3.0):
        model = wrapped(InADict({"scale": scale, "calls": 0}), output=None)
        plain = cdi.ism("ACGTTGCAAGGC", model).predictions
        with pytest.warns(cdi.CacheWarning, match=r"module.config of InADict may change its scores"):
            kept = cdi.ism("ACGTTGCAAGGC", model, cache=tmp_path).predictions
        np.testing.assert_array_equal(kept, plain)


def test_counters_in_buffers_make_no_other_model() -> None:
    class Counting(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))
            self.last = None

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.last = super().forward(x)
            return self.last

    model = wrapped(Counting()).eval()
    model(torch.eye(4, 12)[None])  # as by the user, before any analysis
    averaged = cdi.ism("ACGTTGCAAGGC", model, rc_average=True)
    results = cdi.ism(["ACGTTGCAAGGC", "TTGACCTAATCG"], model)
    assert {each.certificate.model_hash for each in (averaged, *results)} == {averaged.certificate.model_hash}
    assert cdi.find_seqlets(results).certificate.model_hash == averaged.certificate.model_hash


def test_functions_in_modules_of_modules_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("from . import ops\n")
    (tmp_path / "mine" / "ops.py").write_text("def scaled(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    mine = importlib.import_module("mine")

    class Using(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return mine.ops.scaled(x)

    before = fingerprint(Using())
    assert fingerprint(Using()) == before
    monkeypatch.setattr(mine.ops, "scaled", lambda x: 3 * x)
    assert fingerprint(Using()) != before


def test_edits_of_activations_are_told_apart() -> None:
    net = Net()
    prints = []
    for factor in (0, 2):
        with cdi.intervene(net, {"conv": lambda value, where, factor=factor: factor * value}):
            prints.append(fingerprint(net).digest)
    assert len({*prints, fingerprint(net).digest}) == 3


def test_settings_that_many_modules_share_are_looked_at_once() -> None:
    def make(scale: float) -> nn.Module:
        shared = {f"option {at}": [at] for at in range(600)}
        model = nn.ModuleList(nn.Identity() for _ in range(200))
        for module in model:
            module.config = shared
        model.tail = nn.Identity()
        model.tail.scale = scale
        return model

    first, other = fingerprint(make(1.0)), fingerprint(make(2.0))
    assert not first.opaque
    assert first.digest != other.digest


def test_packages_that_a_model_uses_have_their_versions_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    class Using(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.from_numpy(scipy.special.expit(x.numpy()))

    assert {"torch", "scipy"} <= dict(fingerprint(Using()).libraries).keys()
    assert dict(fingerprint(Using()).libraries)["scipy"] == scipy.__version__


def test_attributes_in_slots_count() -> None:
    class Scaled(nn.Module):
        __slots__ = ("factor",)

        def __init__(self) -> None:
            super().__init__()
            self.factor = 1.0

        def forward(self, x: Tensor) -> Tensor:
            return self.factor * x[:, 0].sum(1)

    class Factor(dict):  # type: ignore[type-arg]
        __slots__ = ("value",)

    net = Scaled()
    before = fingerprint(net)
    net.factor = 2.0
    changed = fingerprint(net)
    assert changed.digest != before.digest
    assert not changed.opaque
    net.factor = 1.0
    assert fingerprint(net) == before
    digests = set()
    for value in (1, 2):
        content = Factor(a=1)
        content.value = value
        net.content = content
        digests.add(fingerprint(net).digest)
    assert len(digests) == 2


@pytest.mark.filterwarnings("ignore:.*get_attr.*Node:UserWarning")  # of export in torch 2.6
def test_a_traced_graph_is_its_code_and_constants() -> None:
    class Shifted(nn.Module):
        def __init__(self, shift: float, sign: int) -> None:
            super().__init__()
            self.shift, self.sign = torch.tensor([shift]), sign

        def forward(self, x: Tensor) -> Tensor:
            return self.sign * x[:, 0].sum(1) + self.shift

    variants = [(1.0, 1), (2.0, 1), (1.0, -1), (1.0, 1)]
    for make in (torch.fx.symbolic_trace, lambda net: torch.export.export(net, (torch.zeros(2, 4, 8),)).module()):
        prints = [fingerprint(make(Shifted(*each))) for each in variants]
        assert len({each.digest for each in prints[:3]}) == 3
        assert prints[3] == prints[0]
        assert not prints[0].opaque


def chosen(index: int, factor: float) -> nn.Module:
    class Chosen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, index].sum(1) * factor

    return Chosen()


@pytest.mark.parametrize("frozen", [False, True])
def test_code_and_constants_of_a_compiled_module_count(frozen: bool) -> None:
    def compiled(index: int, factor: float) -> nn.Module:
        traced = torch.jit.trace(chosen(index, factor).eval(), torch.zeros(2, 4, 8))
        return torch.jit.freeze(traced) if frozen else traced

    digests = [fingerprint(compiled(*each)).digest for each in ((0, 1.0), (1, 1.0), (0, 2.0), (0, 1.0))]
    assert len(set(digests[:3])) == 3
    assert digests[3] == digests[0]
