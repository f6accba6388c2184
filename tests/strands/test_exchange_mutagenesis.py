"""`exchange_ism`: effects of substitutions on the exchange, against the exchange map of each mutant."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import crossdna_interpret as cdi
from crossdna_interpret.models.crossdna.exchange import without_messages
from crossdna_interpret.models.crossdna.model import CrossDNA

Make = Callable[..., CrossDNA]
MakeSequence = Callable[..., str]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "targets"),
    [({}, ("rods", "cones")), ({"rc_blocks": "mirrored"}, ("activity",)), ({"block_size": None}, ())],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
def test_changes_are_those_of_each_mutant(
    config: dict, targets: tuple[str, ...], dtype: torch.dtype, tolerance: float, make_model: Make,
    make_sequence: MakeSequence,
) -> None:  # fmt: skip
    model, sequence = make_model(targets=targets, **config).to(dtype), make_sequence(53, n_at=(25,))
    start, end, target = 22, 28, len(targets) - 1 if targets else 0
    r = cdi.exchange_ism(sequence, model, target=target, start=start, end=end, positions=True)
    own = cdi.strand_exchange(sequence, model, target=target)
    assert r.reference == pytest.approx(own.effects.total, abs=tolerance)
    assert r.received is not None
    for row in range(end - start):
        for base in range(4):
            mutant = f"{sequence[: start + row]}{'ACGT'[base]}{sequence[start + row + 1 :]}"
            x = cdi.strand_exchange(mutant, model, target=target)
            assert r.delta[row, base] == pytest.approx(x.effects.total - own.effects.total, abs=tolerance)
            change = x.received[0] + x.received[1, x.partner] - own.received[0] - own.received[1, own.partner]
            np.testing.assert_allclose(r.received[row, base], change, rtol=0, atol=tolerance)
    np.testing.assert_allclose(r.received.sum(-1), r.delta, rtol=0, atol=tolerance)
    assert np.abs(r.delta).max() > 1e-3
    assert r.certificate.checks["worst_sum_over_positions"] < tolerance


def test_table_and_importance(make_model: Make, make_sequence: MakeSequence) -> None:
    model, sequence = make_model(), make_sequence(30)
    r = cdi.exchange_ism(sequence, model, start=4, end=9)
    assert r.received is None
    table = r.to_dataframe()
    assert len(table) == 15
    mutated = table.iloc[7]
    assert mutated["delta_through_exchange"] == r.delta[mutated["position"] - 4, "ACGT".index(mutated["alt"])]
    np.testing.assert_allclose(r.importance, -r.delta.sum(axis=1) / 3, atol=1e-6)
    assert r.to_xarray()["delta"].shape == (5, 4)
    assert "receiver" in cdi.exchange_ism(sequence, model, start=4, end=6, positions=True).to_xarray().dims


def test_a_model_keeps_its_messages(make_model: Make, make_sequence: MakeSequence) -> None:
    model, sequence = make_model(), make_sequence(30)
    before = cdi.predict(sequence, model)
    silent = without_messages(model)
    assert cdi.predict(sequence, silent)[0, 0] == pytest.approx(
        cdi.strand_exchange(sequence, model).effects.none, abs=1e-6
    )
    assert (cdi.predict(sequence, model) == before).all()
