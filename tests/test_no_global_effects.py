"""No call changes global state of torch, numpy, matplotlib or the process, or the model."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import crossdna_interpret as cdi
from crossdna_interpret import plot
from crossdna_interpret.models.change_errors import ChangeErrors
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA

SEQUENCE = "GATTACAGCCATTGACCGTATCAG"


def _attribution(model: nn.Module) -> cdi.Attribution:
    # Few steps and any error: what is asked here is what remains of the call, not how good it is.
    return cdi.integrated_gradients(SEQUENCE, model, shuffles=2, steps=2, max_steps=2, tolerance=1e6)


def _mutagenesis(model: nn.Module) -> cdi.Mutagenesis:
    return cdi.ism(SEQUENCE, model, start=6, end=8, batch_size=4)


def _edits(model: nn.Module) -> cdi.EditScores:
    # More than a few, so that they are scored by reuse; some change the length.
    edits = [cdi.Edit(place, place + 2, string) for place in (2, 9, 16) for string in ("", "CT")]
    return cdi.score_edits(SEQUENCE, edits, model, batch_size=2)


def _deletions(model: nn.Module) -> cdi.EditScan:
    return cdi.deletion_scan(SEQUENCE, model, start=8, end=14, flanks=("GAT", "TACA"), batch_size=4)


def _exchange(model: nn.Module) -> cdi.StrandExchange:
    return cdi.strand_exchange(SEQUENCE, model)


def _ablated(model: nn.Module, side: Literal["receiver", "sender"]) -> float:
    return cdi.ablate_exchange(SEQUENCE, model, positions=range(9), side=side, replacement="shuffled").delta


ERRORS = ChangeErrors(0.5, 1.0, 0.1, {0.9: 2.0}, pairs=100)


def _truth(model: nn.Module) -> cdi.TruthReport:
    rows = [
        (at, SEQUENCE[:at] + base + SEQUENCE[at + 1 :], float(number))
        for at in range(len(SEQUENCE))
        for number, base in enumerate("ACGT")
    ]
    table = pd.DataFrame(rows, columns=["family", "sequence", "activity"])
    return cdi.truth_report(table, model, measured="activity", members=[model])


def _orientation(model: nn.Module) -> cdi.Orientation:
    return cdi.orientation([SEQUENCE[at : at + 6] for at in range(4)], model)


def _pairs(model: nn.Module) -> cdi.PairwiseMutagenesis:
    return cdi.pairwise_ism(SEQUENCE, model, positions=[5, 8], batch_size=4)


WORDS = {word: np.eye(4)[["ACGT".index(base) for base in word]].T for word in ("TTACAG", "GACCGT")}


def _sites(model: nn.Module) -> cdi.MotifSites:
    return cdi.site_effects(cdi.scan(SEQUENCE, WORDS, p=1e-3), model, shuffles=2)


def _interactions(model: nn.Module) -> cdi.MotifInteractions:
    return cdi.motif_interactions(cdi.scan(SEQUENCE, WORDS, p=1e-3), model, shuffles=2)


def _marginal(model: nn.Module) -> cdi.Marginalization:
    return cdi.marginalize("TAATCC", model, backgrounds=[SEQUENCE, SEQUENCE[::-1]], batch_size=1)


def _spacing(model: nn.Module) -> cdi.Spacing:
    return cdi.spacing("TAAT", "CAGC", model, distances=[0, 5], backgrounds=[SEQUENCE, SEQUENCE[::-1]])


def _design(model: nn.Module) -> cdi.Design:
    return cdi.design(SEQUENCE, model, max_edits=1, protect=[(0, 20)])


def _measured(model: nn.Module) -> cdi.MeasuredComparison:
    table = pd.DataFrame({"position": [6, 7], "alt": ["C", "A"], "effect": [0.1, -0.3]})
    return cdi.compare_with_measured(_mutagenesis(model), table)


ANALYSES: dict[str, Callable[[nn.Module], np.ndarray]] = {
    "predict": lambda model: cdi.predict([SEQUENCE, SEQUENCE[:9]], model, batch_size=1),
    "ism": lambda model: _mutagenesis(model).predictions,
    "integrated_gradients": lambda model: _attribution(model).values,
    "score_edits": lambda model: _edits(model).predictions,
    "deletion_scan": lambda model: _deletions(model).predictions,
    "insertion_scan": lambda model: cdi.insertion_scan(SEQUENCE, model, insert="GA", start=9, end=13).predictions,
    "pairwise_ism": lambda model: _pairs(model).predictions,
    "input_gradient": lambda model: cdi.input_gradient([SEQUENCE, SEQUENCE[::-1]], model)[0].values,
    "strand_exchange": lambda model: _exchange(model).contributions,
    "ablate_exchange": lambda model: np.float32([_ablated(model, side) for side in ("receiver", "sender")]),
    "patch_exchange": lambda model: np.float32([cdi.patch_exchange(SEQUENCE[::-1], SEQUENCE, model).delta]),
    "exchange_ism": lambda model: cdi.exchange_ism(SEQUENCE, model, start=6, end=8, positions=True).received,
    "orientation": lambda model: _orientation(model).attribution_worst,
    "site_effects": lambda model: np.float32(_sites(model).table["necessity"].to_numpy()),
    "motif_interactions": lambda model: np.float32(_interactions(model).interaction),
    "marginalize": lambda model: _marginal(model).delta,
    "spacing": lambda model: np.float32(_spacing(model).interaction),
    "design": lambda model: np.float32(_design(model).predictions),
    "mutation_intervals": lambda model: np.float32(
        cdi.mutation_intervals(SEQUENCE, model, errors=ERRORS, draws=2, start=6, end=8).high
    ),
    "truth_report": lambda model: np.float32(_truth(model).table["spread"]),
    "averaged": lambda model: cdi.ism(SEQUENCE, model, start=6, end=8, rc_average=True).predictions,
}

# What they draw is there already, and so are the axes.
PLOTS: dict[str, tuple[Callable, Callable]] = {
    "logo": (_mutagenesis, plot.logo),
    "strand_logo": (_attribution, plot.strand_logo),
    "mutagenesis_map": (_mutagenesis, plot.mutagenesis_map),
    "edit_effects": (_edits, plot.edit_effects),
    "edit_effects of a scan": (_deletions, plot.edit_effects),
    "interaction_map": (_pairs, plot.interaction_map),
    "exchange_arcs": (_exchange, plot.exchange_arcs),
    "exchange_map": (_exchange, plot.exchange_map),
    "exchange_logo": (_exchange, plot.exchange_logo),
    "exchange_effects": (_exchange, plot.exchange_effects),
    "intervention_bars": (lambda model: cdi.ablate_exchange(SEQUENCE, model, positions=[3]), plot.intervention_bars),
    "gate_track": (_exchange, plot.gate_track),
    "certain_effects": (
        lambda model: cdi.mutation_intervals(SEQUENCE, model, errors=ERRORS, draws=1, end=3),
        plot.certain_effects,
    ),
    "change_calibration": (_truth, plot.change_calibration),
    "orientation_scatter": (_orientation, plot.orientation_scatter),
    "annotated_logo": (_sites, plot.annotated_logo),
    "necessity_sufficiency": (_sites, plot.necessity_sufficiency),
    "interaction_graph": (_interactions, plot.interaction_graph),
    "interaction_matrix": (_interactions, plot.interaction_matrix),
    "marginal_effects": (_marginal, plot.marginal_effects),
    "spacing_curves": (_spacing, plot.spacing_curves),
    "design_path": (_design, plot.design_path),
    "measured_scatter": (_measured, plot.measured_scatter),
}


def snapshot(model: nn.Module) -> dict[str, object]:
    """Everything that a call must leave alone."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    return {
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch random state": torch.get_rng_state().numpy().tobytes(),
        "numpy random state": [
            part.tolist() if isinstance(part, np.ndarray) else part
            for part in np.random.get_state()  # noqa: NPY002
        ],
        "python random state": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        # By arithmetic, since the mode belongs to the processor and has no getter.
        "denormal numbers": (
            bool(torch.tensor([1e-310], dtype=torch.float64).mul(1.0).ne(0)),
            bool(torch.tensor([1e-40], dtype=torch.float32).mul(1.0).ne(0)),
            float(np.float64(1e-310) * np.float64(1.0)),
        ),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
            torch.get_float32_matmul_precision(),
        ),
        "numpy errors": np.geterr(),
        "training flags": {name: module.training for name, module in model.named_modules()},
        "requires_grad": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "gradients": {name: parameter.grad for name, parameter in model.named_parameters()},
        "weights": {
            name: hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest()
            for name, tensor in model.state_dict().items()
        },
        "hooks": {
            name: (list(module._forward_hooks), list(module._forward_pre_hooks), list(module._backward_hooks))
            for name, module in model.named_modules()
        },
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
        # Not by items of rcParams itself: asking for the backend would choose one.
        "matplotlib": dict(matplotlib.rcParams.copy()),
        "figures": pyplot.get_fignums() if pyplot else [],
        "warning filters": list(warnings.filters),
        "environment": dict(os.environ),
        "folder": (os.getcwd(), sorted(os.listdir())),
    }


def differences(before: dict[str, object], after: dict[str, object]) -> dict[str, tuple]:
    """What changed, from what to what."""
    assert before.keys() == after.keys()
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}


@contextmanager
def unusual() -> Iterator[None]:
    """Settings that all differ from the defaults. Code that restores a default instead of the old value then fails."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    deterministic = torch.are_deterministic_algorithms_enabled()
    with matplotlib.rc_context({"font.size": 6.5}), torch.no_grad():
        try:
            torch.set_num_threads(threads + 1)
            torch.set_default_dtype(torch.float64)
            torch.set_flush_denormal(True)
            torch.use_deterministic_algorithms(True)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)
            torch.set_flush_denormal(False)
            torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def half_trained(make_model: Callable) -> CrossDNA:
    """A model with dropout and every third module in training mode, every other parameter asking for gradients."""
    model = make_model(depth=1)
    for i, module in enumerate(model.modules()):
        module.training = i % 3 == 0 or isinstance(module, nn.Dropout)
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i % 2 == 0)
    return model


@pytest.fixture(params=[nullcontext, unusual], ids=["usual", "unusual"])
def surroundings(
    half_trained: CrossDNA, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A folder of its own, and for a model that exists already, usual or unusual surroundings."""
    (tmp_path / "notes.txt").write_text("not to be touched")
    monkeypatch.chdir(tmp_path)
    with request.param():
        yield


@pytest.mark.usefixtures("surroundings")
def test_the_snapshot_sees(half_trained: CrossDNA) -> None:
    # Without this, a snapshot that says the same of everything would let every other test here pass.
    before = snapshot(half_trained)
    assert not differences(before, snapshot(half_trained))
    state = torch.get_rng_state()
    torch.rand(1)
    half_trained.stem.training = not half_trained.stem.training
    Path("left-behind.txt").touch()
    torch.set_flush_denormal(before["denormal numbers"][0])
    seen = differences(before, snapshot(half_trained))
    torch.set_rng_state(state)
    assert seen.keys() == {"torch random state", "training flags", "folder", "denormal numbers"}


@pytest.mark.slow
@pytest.mark.usefixtures("surroundings")
@pytest.mark.parametrize("analysis", ANALYSES)
def test_analyses_leave_no_trace(analysis: str, half_trained: CrossDNA) -> None:
    before = snapshot(half_trained)
    ANALYSES[analysis](half_trained)
    assert not differences(before, snapshot(half_trained))


SURROUNDINGS: dict[str, Callable] = {
    "other defaults": unusual,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference mode": torch.inference_mode,
    "another default device": lambda: torch.device("meta"),  # stands for any other than the model's
}


@pytest.mark.slow
@pytest.mark.parametrize("surroundings", SURROUNDINGS)
@pytest.mark.parametrize("analysis", ANALYSES)
def test_surroundings_do_not_reach_into_results(
    analysis: str, surroundings: str, half_trained: CrossDNA, make_model: Callable
) -> None:
    expected = ANALYSES[analysis](make_model(depth=1))
    with SURROUNDINGS[surroundings]():
        result = ANALYSES[analysis](half_trained)
    assert result.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_a_model_is_loaded_for_later_whatever_surrounds_it(surroundings: str) -> None:
    with SURROUNDINGS[surroundings]():
        model = cdi.load_model()
    assert (model.device.type, model.dtype) == ("cpu", torch.float32)
    assert not any(parameter.is_inference() for parameter in model.parameters())
    assert cdi.input_gradient(SEQUENCE, model).values.any()


@pytest.mark.slow
@pytest.mark.usefixtures("surroundings")
@pytest.mark.parametrize("analysis", ANALYSES)
@pytest.mark.parametrize("call", [1, 2])
def test_failures_leave_no_trace(analysis: str, call: int, half_trained: CrossDNA) -> None:
    calls = []

    def fail(module: nn.Module, args: tuple) -> None:
        calls.append(module)
        if len(calls) == call:
            raise RuntimeError("the machine is out of order")

    # On the stem, which every path through the model begins with: the second pass of integrated gradients is a
    # differentiated one.
    half_trained.stem.register_forward_pre_hook(fail)
    before = snapshot(half_trained)
    with pytest.raises(RuntimeError, match="the machine is out of order"):
        ANALYSES[analysis](half_trained)
    assert len(calls) == call
    assert not differences(before, snapshot(half_trained))


@pytest.mark.slow
@pytest.mark.parametrize("context", [nullcontext, unusual])
@pytest.mark.parametrize("name", PLOTS)
def test_plots_leave_no_trace(
    name: str, context: Callable, half_trained: CrossDNA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    analyse, draw = PLOTS[name]
    result = analyse(half_trained)
    with context():
        ax = Figure().subplots()
        before = snapshot(half_trained)
        assert draw(result, ax=ax) is ax
        assert not differences(before, snapshot(half_trained))


def test_every_public_plot_is_here() -> None:
    drawn = {draw.__name__ for _, draw in PLOTS.values()}
    assert drawn == set(plot.__all__) - {"PALETTES", "draw_letters"}


@pytest.mark.slow
@pytest.mark.parametrize("threads", [{}, {"OMP_NUM_THREADS": "1"}], ids=["threads of the machine", "one thread"])
def test_first_calls_of_a_process_leave_no_trace(tmp_path: Path, threads: dict[str, str]) -> None:
    # Libraries that are imported on demand may set something at import, and here most are imported already.
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"} | threads
    process = subprocess.run(
        [sys.executable, __file__], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert process.stderr == ""
    assert process.stdout == "no trace\n"


if __name__ == "__main__":
    tiny = CrossDNAConfig(d_model=8, depth=1, comba_heads=2, comba_head_dim=4, attention_heads=2)
    fresh = CrossDNA(tiny, ["activity"])
    start = snapshot(fresh)
    for run in ANALYSES.values():
        run(fresh)
    print(", ".join(differences(start, snapshot(fresh))) or "no trace")


def test_loading_a_model_leaves_random_numbers_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    cdi.load_model()
    assert torch.equal(torch.rand(2), expected)
