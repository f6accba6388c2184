"""The recurrence in chunks with strong decays, and with values that decay through denormal numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from crossdna_interpret.models.crossdna import recurrence
from crossdna_interpret.models.crossdna.recurrence import CHUNK, RecurrenceTrace
from tests.models.recurrence_loop import Inputs, by_chunks, by_loop, double, gradients, inputs, random, single, traced


def with_decay(x: Inputs, g: Tensor | float) -> Inputs:
    """The same with other log-decays, the same for all heads."""
    *first, old, beta = x
    return (*first, torch.zeros_like(old) + (g[:, None] if isinstance(g, Tensor) else g), beta)  # type: ignore[return-value]


def denormal(x: Tensor) -> int:
    """How many numbers are neither zero nor normal."""
    return int(((x != 0) & (x.abs() < torch.finfo(x.dtype).tiny)).sum())


def strong(value: float, step: int) -> Tensor:
    """Log-decays, one in `step` of them strong enough to leave nothing; chunks are of full size."""
    g = torch.full((3 * CHUNK - 1,), -0.05)
    g[::step] = value
    return g


STRONG = [
    pytest.param(strong(value, step), id=f"{value} every {step}") for value in (-50.0, -1000.0) for step in (1, 7)
]


def strong_inputs(decay: Tensor, dtype: torch.dtype) -> Inputs:
    """With those decays, for two heads."""
    x = inputs(len(decay), heads=2)
    return with_decay(x if dtype == torch.float64 else single(x), decay.to(dtype))


@pytest.mark.parametrize("started", [False, True], ids=["from zero", "from a state"])
@pytest.mark.parametrize("decay", STRONG)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_strong_decays_agree_with_the_loop(decay: Tensor, dtype: torch.dtype, started: bool) -> None:
    x = strong_inputs(decay, dtype)
    state = random(1, 2, 3, 5).to(dtype) if started else None
    result, trace = traced(x, state)
    assert result.dtype == dtype
    expected, states = by_loop(double(x), None if state is None else state.double())
    tolerance = 1e-11 if dtype == torch.float64 else 5e-6
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=tolerance)
    for position in range(len(decay) + 1):
        computed = trace.state_at(position).double()
        torch.testing.assert_close(computed, states[position, 0], rtol=0, atol=tolerance, msg=f"at {position}")


@pytest.mark.parametrize("decay", STRONG)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_strong_decays_have_the_gradients_of_the_loop(decay: Tensor, dtype: torch.dtype) -> None:
    x = strong_inputs(decay, dtype)
    leaves = [y.clone().requires_grad_() for y in x]
    exact = [y.clone().requires_grad_() for y in double(x)]
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    expected = gradients(by_loop(exact)[0], exact)
    for ours, theirs in zip(gradients(by_chunks(*leaves), leaves), expected, strict=True):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance)


class Denormals(TorchDispatchMode):
    """Counts the denormal numbers in whatever any operation returns while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, Tensor) and x.is_floating_point():
                self.count += denormal(x)
        return out


def denormals_inside(g: Tensor, started: bool) -> int:
    """Denormal numbers that form on the way there and back, values coming in at every position."""
    x = [y.requires_grad_() for y in single(with_decay(inputs(len(g), heads=2), g.float()))]
    trace = RecurrenceTrace()
    if started:
        x.append(random(1, 2, 3, 5).float().requires_grad_())
    with Denormals() as seen:
        torch.autograd.grad(by_chunks(*x).sum(), x)
        by_chunks(*x, trace=trace)
        for position in range(len(g) + 1):
            trace.state_at(position)
    return seen.count


@pytest.mark.parametrize("started", [False, True], ids=["from zero", "from a state"])
@pytest.mark.parametrize("decay", [*STRONG, pytest.param(strong(-3.0, 1), id="-3 everywhere")])
def test_strong_decays_form_no_denormal_numbers(decay: Tensor, started: bool) -> None:
    assert denormals_inside(decay, started) == 0


def test_without_a_floor_strong_decays_do_form_denormal_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrence, "_decay", torch.exp)
    assert denormals_inside(strong(-3.0, 1), False) > 0
    assert denormals_inside(strong(-50.0, 1), False) > 0


# A pulse fades through every magnitude down to zero. It cost a factor of two in time where it did so through denormals.
FADING = [(-0.3, 12 * CHUNK), (-0.7, 5 * CHUNK), (-1.0, 5 * CHUNK)]


@pytest.mark.parametrize("started", [False, True], ids=["from zero", "from a state"])
@pytest.mark.parametrize(("decay", "length"), FADING)
def test_what_fades_away_does_not_become_denormal(decay: float, length: int, started: bool) -> None:
    x = single(with_decay(inputs(length), decay))
    state = random(1, 1, 3, 5).float() if started else None
    x[2][:, 0 if started else 3 :] = 0
    assert denormal(by_loop(x, state)[0]) > 0  # so that the checks below have something to miss
    out, trace = traced(x, state)
    assert denormal(out) == 0
    for position in range(length + 1):
        state = trace.state_at(position)
        assert not ((state != 0) & (state.abs() < 1e-13)).any()  # so that it may be multiplied by two factors more
    assert not state.any()


@pytest.mark.parametrize(("decay", "length"), FADING)
def test_gradients_that_fade_away_do_not_become_denormal(decay: float, length: int) -> None:
    # A question about the last position alone, as attribution may ask: its gradient fades towards the start.
    x = [y.requires_grad_() for y in [*single(with_decay(inputs(length), decay)), random(1, 1, 3, 5).float()]]
    theirs = torch.autograd.grad(by_loop(x[:-1], x[-1])[0][:, -1].sum(), x)
    assert sum(map(denormal, theirs)) > 0
    assert sum(map(denormal, torch.autograd.grad(by_chunks(*x)[:, -1].sum(), x))) == 0
