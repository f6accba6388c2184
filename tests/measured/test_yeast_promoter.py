"""The bundled model of yeast promoters against the bundled measurements: the numbers of its card."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import crossdna_interpret as cdi

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def facts() -> dict[str, float]:
    folder = Path(cdi.__file__).parent / "assets" / "models" / "yeast-promoter"
    result: dict[str, float] = json.loads((folder / "config.json").read_text(encoding="utf-8"))["provenance"]
    return result


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Measured sequences, without whole numbers, which rest on few reads."""
    table = cdi.example_families()
    return table.assign(**{name: table[name].where(table[name] % 1 != 0) for name in ("complex", "defined")})


@pytest.fixture(scope="module")
def scores(table: pd.DataFrame) -> np.ndarray:
    return cdi.predict(table["sequence"].tolist(), "yeast-promoter")


def test_scores_agree_with_the_measurements(table: pd.DataFrame, scores: np.ndarray, facts: dict[str, float]) -> None:
    for at, (name, fact) in enumerate((("complex", "valid_r"), ("defined", "valid_r_1"))):
        known = table[name].notna().to_numpy()
        r = np.corrcoef(scores[known, at], table[name][known])[0, 1]
        assert r == pytest.approx(facts[fact], abs=0.002)


def close_pairs(table: pd.DataFrame) -> list[tuple[int, int]]:
    """Rows of one family that differ in one to four bases, found one by one."""
    bases = np.array([list(each) for each in table["sequence"]])
    pairs = []
    for rows in table.reset_index(drop=True).groupby("family").indices.values():
        for place, one in enumerate(rows):
            apart = (bases[rows[place + 1 :]] != bases[one]).sum(1)
            pairs += [(one, other) for other in rows[place + 1 :][(apart > 0) & (apart < 5)]]
    return pairs


def test_changes_within_families_agree(table: pd.DataFrame, scores: np.ndarray, facts: dict[str, float]) -> None:
    values = table["complex"].to_numpy()
    changes = [
        (scores[other, 0] - scores[one, 0], values[other] - values[one])
        for one, other in close_pairs(table)
        if not np.isnan(values[[one, other]]).any()
    ]
    predicted, measured = np.array(changes).T
    assert len(changes) == facts["valid_changes"] == 6781
    both = np.concatenate([predicted, -predicted]), np.concatenate([measured, -measured])
    assert np.corrcoef(*both)[0, 1] == pytest.approx(facts["valid_r_changes"], abs=0.002)
    large = np.abs(measured) > 1
    assert large.sum() == facts["valid_large"]
    same = (np.sign(predicted) == np.sign(measured))[large].mean()
    assert same == pytest.approx(facts["valid_signs"], abs=0.002)


def test_a_promoter_and_its_reverse_complement_are_two(
    table: pd.DataFrame, scores: np.ndarray, facts: dict[str, float]
) -> None:
    other = cdi.predict([cdi.reverse_complement(each) for each in table["sequence"]], "yeast-promoter")
    assert np.corrcoef(scores[:, 0], other[:, 0])[0, 1] == pytest.approx(facts["r_of_strands"], abs=0.002)


def test_intervals_hold_what_they_say(table: pd.DataFrame) -> None:
    """With the spread that the model's own intervals use, on every fourth family."""
    families = table.dropna(subset=["complex"]).groupby("family").filter(lambda rows: len(rows) >= 5)
    some = families[families["family"].isin(sorted(families["family"].unique())[1::4])]
    report = cdi.truth_report(some, "yeast-promoter", measured="complex")
    assert report.summary()["changes"] > 1000
    assert 0.85 <= report.coverage <= 0.95


def test_every_target_has_intervals_of_mutations() -> None:
    sequence = cdi.example_families()["sequence"][0]
    for target in ("complex", "defined"):
        intervals = cdi.mutation_intervals(sequence, "yeast-promoter", target=target, end=2)
        assert (intervals.high - intervals.low).max() > 0.1
