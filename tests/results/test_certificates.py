"""A certificate has the checks of every run of an analysis, and no others."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import crossdna_interpret as cdi
from crossdna_interpret.models.change_errors import ChangeErrors
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.results import Certificate
from crossdna_interpret.scoring.runner import _Run
from tests.conftest import random_model, random_sequence
from tests.motifs.logic import Affinity

SEQUENCE = random_sequence(60, seed=3)
MOTIFS = {"one": np.eye(4)[["ACGT".index(base) for base in SEQUENCE[10:20]]].T,
          "two": np.eye(4)[["ACGT".index(base) for base in SEQUENCE[30:40]]].T}  # fmt: skip

ERRORS = ChangeErrors(0.5, 1.0, 0.1, {0.9: 2.0}, pairs=100)


def sites(model: CrossDNA) -> cdi.MotifSites:
    return cdi.scan(SEQUENCE, MOTIFS, p=1e-5)


def measured() -> pd.DataFrame:
    return pd.DataFrame({"position": [3], "alt": ["A" if SEQUENCE[3] != "A" else "C"], "effect": [1.0]})


# Every public analysis that asks a model about edits; each is run once on a small CrossDNA.
OF_EDITS: dict[str, Callable[[CrossDNA], Any]] = {
    "ism": lambda m: cdi.ism(SEQUENCE, m),
    "score_edits": lambda m: cdi.score_edits(SEQUENCE, [cdi.Edit(at, at + 1, "") for at in range(6)], m),
    "deletion_scan": lambda m: cdi.deletion_scan(SEQUENCE, m, width=2),
    "insertion_scan": lambda m: cdi.insertion_scan(SEQUENCE, m, insert="GATA"),
    "pairwise_ism": lambda m: cdi.pairwise_ism(SEQUENCE, m, positions=[1, 20, 33]),
    "exchange_ism": lambda m: cdi.exchange_ism(SEQUENCE, m, start=20, end=30),
    "orientation": lambda m: cdi.orientation([SEQUENCE, SEQUENCE[:40]], m),
    "site_effects": lambda m: cdi.site_effects(sites(m), m, shuffles=4),
    "motif_interactions": lambda m: cdi.motif_interactions(sites(m), m, shuffles=4),
    "spacing": lambda m: cdi.spacing("TAATCC", "CAGATGG", m, distances=[0, 4], backgrounds=[SEQUENCE, SEQUENCE[::-1]]),
    "design": lambda m: cdi.design(SEQUENCE, m, max_edits=2),
    "mutation_intervals": lambda m: cdi.mutation_intervals(SEQUENCE, m, errors=ERRORS, draws=2),
}
# What is made of results of edits.
OF_RESULTS: dict[str, Callable[[CrossDNA], Any]] = {
    "find_seqlets": lambda m: cdi.find_seqlets(cdi.ism([SEQUENCE, SEQUENCE[:40]], m)),
    "annotate": lambda m: cdi.annotate(cdi.find_seqlets(cdi.ism(SEQUENCE, m)), MOTIFS),
    "scan": lambda m: cdi.scan(cdi.ism([SEQUENCE, SEQUENCE[:40]], m), MOTIFS),
    "compare_with_measured": lambda m: cdi.compare_with_measured(cdi.ism(SEQUENCE, m), measured()),
    "site_effects of results": lambda m: cdi.site_effects(cdi.scan(cdi.ism(SEQUENCE, m), MOTIFS, p=1e-5), m),
    "averages": lambda m: cdi.ism(SEQUENCE, m, rc_average=True),
}
# Analyses of whole forward passes, gradients or messages, and what is no analysis.
OTHERS = {
    "ablate_exchange", "capture", "explore", "hook_names", "input_gradient", "integrated_gradients", "intervene",
    "marginalize", "outside_training", "patch_exchange", "predict", "select_targets", "strand_exchange", "truth_report",
}  # fmt: skip


def test_every_public_analysis_is_known_here() -> None:
    public = {name: getattr(cdi, name) for name in cdi.__all__}
    models = {
        name for name, it in public.items() if inspect.isfunction(it) and "model" in inspect.signature(it).parameters
    }
    assert models == OF_EDITS.keys() | OTHERS


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OF_EDITS, *OF_RESULTS])
def test_what_scores_edits_has_the_worst_difference_of_all_its_runs(
    name: str, model: CrossDNA, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Certificate] = []
    run_of = _Run.result

    def recorded(job: _Run, *args: Any) -> Any:
        result = run_of(job, *args)
        runs.append(result.certificate)
        return result

    monkeypatch.setattr(_Run, "result", recorded)
    certificate = (OF_EDITS | OF_RESULTS)[name](model).certificate
    assert runs
    checked = [run.checks for run in runs if run.checks]
    for check in ("reuse_worst_difference", "reuse_largest_effect"):
        assert certificate.checks[check] == max(run[check] for run in checked)
    assert certificate.checks["reuse_checked"] == sum(run["reuse_checked"] for run in checked)
    assert certificate.model == model.name
    assert certificate.model_hash == cdi.ism(SEQUENCE, model, end=4).certificate.model_hash
    assert (certificate.device, certificate.dtype) == ("cpu", "float32")
    assert Certificate(**json.loads(certificate.to_json())) == certificate


@pytest.mark.parametrize("name", [name for name in OF_EDITS if name != "exchange_ism"])
def test_a_model_without_reuse_has_no_check_of_it(name: str) -> None:
    model: Any = Affinity(cdi.read_motifs(MOTIFS), lambda strength: strength.sum(1))
    certificate = OF_EDITS[name](model).certificate
    assert not any(check.startswith("reuse") for check in certificate.checks)
    assert certificate.model == "logic"


def test_what_was_not_checked_is_not_certified(model: CrossDNA) -> None:
    """Three edits are too few for reuse; two at a time are scored by whole passes."""
    assert cdi.exchange_ism(SEQUENCE, model, start=5, end=6).certificate.checks == {}
    nothing = cdi.site_effects(cdi.scan("GGGGGGGGGGGGGG", MOTIFS), model)
    assert (len(nothing), nothing.certificate.checks) == (0, {})
    assert nothing.certificate.model == model.name
    assert cdi.marginalize("TAATCC", model, backgrounds=[SEQUENCE]).certificate.checks == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")
def test_orientation_has_the_worst_error_of_integrated_gradients(model: CrossDNA) -> None:
    certificate = cdi.orientation([SEQUENCE[:12]], model, method="integrated_gradients").certificate
    one, other = cdi.integrated_gradients(SEQUENCE[:12], model, rc_average=True).orientations
    checks = one.certificate.checks
    assert checks.keys() >= {"worst_relative_completeness_error", "worst_relative_error_over_sections"}
    assert certificate.checks == {name: max(checks[name], other.certificate.checks[name]) for name in checks}
    assert certificate.settings["method"] == "integrated_gradients"


def test_effects_are_certified_for_the_model_that_was_measured(model: CrossDNA) -> None:
    other = random_model(seed=5)
    of_other = cdi.site_effects(cdi.scan(cdi.ism(SEQUENCE, model), MOTIFS, p=1e-5), other, shuffles=2).certificate
    assert of_other.model_hash == cdi.ism(SEQUENCE, other, end=4).certificate.model_hash
    assert of_other.settings["sites"]["model_hash"] == cdi.ism(SEQUENCE, model, end=4).certificate.model_hash
    assert of_other.settings["sites"]["p"] == 1e-5


@pytest.mark.parametrize("make", [cdi.find_seqlets, lambda results: cdi.scan(results, MOTIFS)])
def test_results_of_two_models_are_not_one_analysis(make: Callable, model: CrossDNA) -> None:
    results = [cdi.ism(SEQUENCE, each, end=8) for each in (model, random_model(seed=5))]
    with pytest.raises(ValueError, match=r"`result` must be of one model, but are of crossdna \(\w{8}\), crossdna"):
        make(results)


# The merge itself


def certificate(**changes: Any) -> Certificate:
    first = Certificate("run", "toy", "0" * 64, "cpu", "float32", {"numpy": "2"}, {"seed": 0}, {"error": 0.5})
    return dataclasses.replace(first, **changes)


def test_merging_takes_the_worst_check_and_all_settings() -> None:
    parts = [
        certificate(),
        certificate(checks={"error": 0.7, "steps_checked": 3}, settings={"seed": 0, "batch_size": 4}),
        certificate(
            checks={"steps_checked": 4}, settings={"batch_size": 8, "seed": 0}, versions={"numpy": "2", "x": "1"}
        ),
        certificate(checks={}, device="cuda:0"),
    ]
    merged = Certificate.merge(parts, method="all", settings={"seed": 1}, checks={"own": 2.0})
    assert merged.method == "all"
    assert merged.checks == {"error": 0.7, "steps_checked": 7, "own": 2.0}
    assert merged.settings == {"seed": 1, "batch_size": (4, 8)}
    assert merged.versions == {"numpy": "2", "x": "1"}
    assert (merged.device, merged.dtype) == ("cpu, cuda:0", "float32")
    assert parts[0] == certificate()


def test_merging_merged_certificates_is_merging_all() -> None:
    parts = [certificate(checks={"error": size / 10, "edits_checked": size}) for size in (4, 8, 4, 2)]
    halves = [Certificate.merge(half, method="half") for half in (parts[:2], parts[2:])]
    assert Certificate.merge(halves, method="all") == Certificate.merge(parts, method="all")
    named = [certificate(settings={"size": size, "forbid": ["A", "B"]}) for size in (4, 8, 4, 2)]
    halves = [Certificate.merge(half, method="half") for half in (named[:2], named[2:])]
    merged = Certificate.merge(halves, method="all")
    assert merged == Certificate.merge(named, method="all")
    assert merged.settings == {"size": (4, 8, 2), "forbid": ["A", "B"]}
    assert json.loads(merged.to_json())["settings"]["size"] == [4, 8, 2]
    pair = [certificate(settings={"window": window}) for window in ((1, 2), (2, 5))]  # a setting that is a tuple itself
    assert Certificate.merge(pair, method="all").settings == {"window": ((1, 2), (2, 5))}
    assert Certificate.merge(pair[:1], method="all").settings == {"window": (1, 2)}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "`parts` must hold at least one certificate"),
        (
            [certificate(), certificate(model_hash="1" * 64)],
            r"of one model, but are of toy \(00000000\), toy \(11111111\)",
        ),
        ([certificate(), certificate(model="other")], r"of one model, but are of toy \(00000000\), other \(00000000\)"),
    ],
)
def test_bad_parts(parts: list[Certificate], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Certificate.merge(parts, method="all")
