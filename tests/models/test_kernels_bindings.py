"""Arguments and memory of the compiled functions."""

from __future__ import annotations

import copy
import ctypes
import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from crossdna_interpret.models.crossdna.attention import rotary_table
from crossdna_interpret.models.crossdna.native import compiling
from crossdna_interpret.models.crossdna.native.bindings import NEEDS_MEMORY, load_kernels, signatures
from crossdna_interpret.models.crossdna.native.compiling import find_compiler
from crossdna_interpret.models.crossdna.states import CombaTrace
from tests.models.kernel_cases import (
    Random,
    attention_by_torch,
    comba_by_kernels,
    comba_by_torch,
    comba_of,
    past_of,
    projections_of,
)
from tests.models.kernel_sizes import SIZES, Load, assert_near, config_of, every_dtype

pytestmark = pytest.mark.usefixtures("kernel_cache", "without_gradients")

# Types of arguments


def in_c(kind: Any, dtype: torch.dtype) -> str:
    """An argument's type as C writes it."""
    names = {ctypes.c_int: "int", ctypes.c_long: "long", ctypes.c_float: "REAL", ctypes.c_double: "REAL"}
    return names[kind] if kind in names else {torch.int32: "int *", dtype: "REAL *"}[kind.dtype]


@every_dtype
def test_the_table_of_arguments_says_what_the_c_code_says(dtype: torch.dtype) -> None:
    text = "\n".join((compiling.SOURCE / name).read_text() for name in compiling.FILES)
    exported = re.findall(r"^(int|void) (\w+)\(([^)]*)\) \{", text, re.M)
    assert {name for result, name, _ in exported if result == "int"} == set(NEEDS_MEMORY)
    expected = {}
    for _, name, arguments in exported:
        parts = [re.fullmatch(r"\s*(?:const )?(\w+ \*?)(\w+)\s*", part) for part in arguments.split(",")]
        expected[name] = [(part[2], part[1].strip()) for part in parts if part]
        assert len(expected[name]) == len(parts)
    table = {
        name: [(argument, in_c(kind, dtype)) for argument, kind in arguments.items()]
        for name, arguments in signatures(dtype).items()
    }
    assert table == expected


def of_rms_norm(dtype: torch.dtype) -> dict[str, Any]:
    x = torch.ones(2, 20, dtype=dtype)
    return {"positions": 2, "width": 20, "x": x, "weight": x[0].clone(), "epsilon": 0.0, "scale": 1.0, "out": x.clone()}


@every_dtype
@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        ("positions", 2.0),
        ("width", None),
        ("width", torch.ones(1)),
        ("x", None),
        ("x", 2),
        ("x", np.ones((2, 20))),
        ("x", torch.ones(2, 20, dtype=torch.float16)),
        ("x", torch.ones(2, 20, dtype=torch.int32)),
        ("x", torch.ones(2, 20, device="meta")),
        ("epsilon", None),
        ("epsilon", torch.ones(2)),
        ("epsilon", "0"),
    ],
    ids=str,
)
def test_an_argument_of_a_wrong_type_is_an_error(load: Load, dtype: torch.dtype, argument: str, wrong: object) -> None:
    function, arguments = load("tiny", dtype).library.rms_norm, of_rms_norm(dtype)
    assert function(**arguments) is None
    with pytest.raises((ctypes.ArgumentError, TypeError)):
        function(**arguments | {argument: wrong})


@every_dtype
def test_numbers_of_the_other_type_and_in_another_order_are_an_error(load: Load, dtype: torch.dtype) -> None:
    function, arguments = load("tiny", dtype).library.rms_norm, of_rms_norm(dtype)
    other = torch.float64 if dtype == torch.float32 else torch.float32
    with pytest.raises(ctypes.ArgumentError, match=f"a tensor of {dtype} on the CPU is needed, not of {other}"):
        function(**arguments | {"x": arguments["x"].to(other)})
    with pytest.raises(ctypes.ArgumentError, match=r"a contiguous tensor is needed, .*shape \(2, 20\).*\(1, 2\)"):
        function(**arguments | {"x": torch.ones(20, 2, dtype=dtype).t()})


@every_dtype
@pytest.mark.parametrize("name", sorted(signatures(torch.float32)))
def test_a_missing_a_surplus_or_a_swapped_argument_is_an_error(load: Load, dtype: torch.dtype, name: str) -> None:
    function = getattr(load("tiny", dtype).library, name)
    nothing = {  # that is to be done
        argument: torch.zeros(2, dtype=kind.dtype) if hasattr(kind, "dtype") else 0
        for argument, kind in signatures(dtype)[name].items()
    }
    function(**nothing)
    for argument in nothing:
        with pytest.raises(TypeError, match=argument):
            function(**{other: value for other, value in nothing.items() if other != argument})
    with pytest.raises(TypeError):
        function(**nothing, another=0)
    with pytest.raises(TypeError):
        function(*nothing.values(), 0)
    function(*nothing.values())
    with pytest.raises((ctypes.ArgumentError, TypeError)):
        function(*reversed(nothing.values()))


# Memory


@every_dtype
def test_no_memory_is_an_error(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_compiler() is None:
        pytest.skip("there is no C compiler here")
    monkeypatch.setattr(compiling, "ALWAYS", [*compiling.ALWAYS, "-DALLOCATE(bytes)=NULL"])
    kernels, random = load_kernels(config_of("tiny"), dtype), Random(0)
    layer = comba_of("tiny", 2, random)
    projected, trace = projections_of(layer, random, 2, 1234), CombaTrace()
    copy.deepcopy(layer).to(dtype).mix(projected[:1].to(dtype), trace=trace)
    with pytest.raises(MemoryError, match="No memory for Comba over 2,468 positions"):
        comba_by_kernels(kernels, layer, projected)
    with pytest.raises(MemoryError, match="No memory for Comba's states before 1,000 positions"):
        kernels.states_at(np.arange(1000), trace.recurrence)
    x = random(1, 1234, 18).to(dtype)
    with pytest.raises(MemoryError, match="No memory for the attention over 1,234 positions"):
        kernels.attention(x, 1, 3, None, rotary_table(1234, 6, 10000.0, x))


def with_a_small_stack(work: Callable[[], Tensor]) -> Tensor:
    """What `work` returns in a thread whose stack is of 256 KB."""
    results: list[Tensor] = []

    def run() -> None:
        with torch.no_grad():  # which is of a thread
            results.append(work().clone())

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    return results[0]


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> str:
    """A size with keys of 512, values of 1024 and attention heads of 2048 numbers."""
    monkeypatch.setitem(SIZES, "large", {"comba_head_dim": 512, "expand_v": 2.0, "conv_size": 4, "d_model": 2048})
    return "large"


@every_dtype
def test_large_heads_leave_the_stack_of_a_thread_alone(load: Load, large: str, dtype: torch.dtype) -> None:
    random, kernels = Random(0), load(large, dtype)
    layer = comba_of(large, 1, random)
    projected, past = projections_of(layer, random, 1, 70), past_of(layer, random)
    result = with_a_small_stack(lambda: comba_by_kernels(kernels, layer, projected, past))
    assert_near(result, comba_by_torch(layer, projected, past))

    traces = {kind: CombaTrace() for kind in (torch.float32, torch.float64)}
    for kind, trace in traces.items():
        layer.to(kind).mix(projected.to(kind), trace=trace)
    places = np.arange(0, 71, 10)
    result = with_a_small_stack(lambda: kernels.states_at(places, traces[dtype].recurrence))
    assert_near(result, lambda kind: torch.stack([traces[kind].recurrence.state_at(int(at)) for at in places]))

    rows = random(1, 40, 3 * 2048)
    table = rotary_table(40, 2048, 10000.0, rows.to(dtype))
    result = with_a_small_stack(lambda: kernels.attention(rows.to(dtype), 1, 9, None, table))
    assert_near(result, lambda kind: attention_by_torch(rows.to(kind), (1, 1), 9))
