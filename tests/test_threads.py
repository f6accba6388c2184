"""Every analysis gives the same results from several threads with one model as from one thread."""

from __future__ import annotations

import copy
import os
import pickle
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import crossdna_interpret as cdi
from crossdna_interpret.models.crossdna.native.compiling import find_compiler
from crossdna_interpret.parallel import alone, for_each, spread_over_threads, threads_to_spread_over

THREADS = 8
compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler here")


@pytest.fixture
def two_threads() -> Iterator[None]:
    """PyTorch has two threads, on whatever machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def numbers(result: Any) -> list[np.ndarray]:
    """All arrays of a result."""
    if isinstance(result, np.ndarray):
        return [result]
    return [value for value in vars(result).values() if isinstance(value, (np.ndarray, float))]


MOTIF = {"m": np.eye(4)[[0, 2, 3, 1]].T}


def sites(result: Any) -> np.ndarray:
    """Where they are, and how sure that is."""
    return result.table[["start", "end", "p_value"]].to_numpy(dtype=float)


ANALYSES: dict[str, Callable[[str, Any], Any]] = {
    "predict": lambda s, m: cdi.predict([s, s[:40], s[::-1]], m),
    "ism": lambda s, m: cdi.ism(s, m, end=12),
    "ism on kernels": lambda s, m: cdi.ism(s, m, end=12, compile=True),
    "ism without kernels": lambda s, m: cdi.ism(s, m, end=12, compile=False),
    "ism of both orientations": lambda s, m: cdi.ism(s, m, end=6, rc_average=True),
    "score_edits": lambda s, m: cdi.score_edits(s, [(1, 2, "A"), (5, 9, ""), (3, 3, "GATA")], m),
    "deletion_scan": lambda s, m: cdi.deletion_scan(s, m, end=9),
    "insertion_scan": lambda s, m: cdi.insertion_scan(s, m, insert="GATA", end=9),
    "pairwise_ism": lambda s, m: cdi.pairwise_ism(s, m, positions=[3, 9, 20]),
    "integrated_gradients": lambda s, m: cdi.integrated_gradients(s, m, shuffles=2, steps=8, max_steps=8, tolerance=9),
    "input_gradient": lambda s, m: cdi.input_gradient(s, m),
    "strand_exchange": lambda s, m: cdi.strand_exchange(s, m),
    "exchange_ism": lambda s, m: cdi.exchange_ism(s, m, end=5, positions=True),
    "ablate_exchange": lambda s, m: cdi.ablate_exchange(s, m, positions=range(4)),
    "patch_exchange": lambda s, m: cdi.patch_exchange(s, s[1:] + "A", m),
    "orientation": lambda s, m: cdi.orientation([s, s[::-1]], m).forward,
    "design": lambda s, m: np.array(cdi.design(s[:30], m, max_edits=2).predictions),
    "marginalize": lambda s, m: cdi.marginalize("TAATCC", m, backgrounds=[s[:40]] * 2),
    "spacing": lambda s, m: cdi.spacing("TAAT", "CAGA", m, distances=[0, 4], backgrounds=[s[:40]]),
    "site_effects": lambda s, m: cdi.site_effects(cdi.scan(s, MOTIF, p=1e-2), m, shuffles=2).table.necessity.to_numpy(),
    "annotate": lambda s, m: sites(cdi.annotate(cdi.find_seqlets(cdi.input_gradient(s, m), threshold=0.5), MOTIF)),
}


@pytest.mark.slow
@compiler
@pytest.mark.usefixtures("kernel_cache", "two_threads")
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_eight_threads_on_one_model(make_model: Callable, make_sequence: Callable, training: bool) -> None:
    """All kinds of analyses at once, of sequences of their own; dropout is on where the model is in training mode."""
    model = make_model(targets=["y"], dropout=0.5)
    model.train(training)
    sequences = [make_sequence(48, seed=seed) for seed in range(2)]
    jobs = [(name, sequence) for sequence in sequences for name in ANALYSES]
    apart = copy.deepcopy(model).eval()
    expected = {job: numbers(ANALYSES[job[0]](job[1], apart)) for job in jobs}
    names = [sorted(vars(module)) for module in model.modules()]
    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(lambda job: (job, numbers(ANALYSES[job[0]](job[1], model))), jobs))
    for job, result in results:
        for array, right in zip(result, expected[job], strict=True):
            np.testing.assert_allclose(array, right, rtol=2e-4, atol=2e-5, err_msg=job[0])
    assert [sorted(vars(module)) for module in model.modules()] == names
    assert all(module.training is training for module in model.modules())
    # Afterwards the model is still what it was: without kernels, as a copy, and pickled.
    for after in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        result = cdi.ism(sequences[0], after, end=12, compile=False)
        np.testing.assert_allclose(result.predictions, expected["ism without kernels", sequences[0]][1], atol=2e-5)


def test_hooks_of_one_thread_do_not_reach_into_another(make_model: Callable) -> None:
    model = make_model(targets=["y"])
    expected = cdi.predict("ACGTTGCAAC", model)
    inside, done = threading.Event(), threading.Event()

    def changed() -> tuple[np.ndarray, int]:
        with (
            cdi.intervene(model, {"bridge.out_a": lambda value, where: value + 1}),
            cdi.capture(model, "stem.forward") as acts,
        ):
            inside.set()
            done.wait(30)
            return cdi.predict("ACGTTGCAAC", model), len(acts["stem.forward"])

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(changed)
        inside.wait(30)
        here = cdi.predict("ACGTTGCAAC", model)
        reused = cdi.ism("ACGTTGCAAC", model, end=3)
        done.set()
        there, seen = other.result()
    np.testing.assert_array_equal(here, expected)
    assert "exact reuse" in reused.certificate.method
    assert np.abs(there - expected).max() > 1e-4
    assert seen == 1


@pytest.mark.usefixtures("two_threads")
def test_items_are_computed_with_one_thread_each_and_settings_stay() -> None:
    seen: list[tuple[int, str]] = []
    for_each(
        range(20), lambda item: (torch.get_num_threads(), threading.current_thread().name), lambda _, r: seen.append(r)
    )
    assert [count for count, _ in seen] == [1] * 20
    assert threading.current_thread().name not in {name for _, name in seen}
    assert alone(torch.get_num_threads) == 1
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as pool:  # a thread that starts later
        assert pool.submit(torch.get_num_threads).result() == 2
    # Within a thread everything is computed there.
    assert alone(lambda: alone(threading.get_ident) == threading.get_ident())


@pytest.mark.usefixtures("two_threads")
def test_an_error_ends_the_work_and_nothing_runs_on() -> None:
    running = [0]

    def compute(item: int) -> int:
        running[0] += 1
        time.sleep(0.05)
        running[0] -= 1
        if item == 3:
            raise ZeroDivisionError
        return item

    seen: list[int] = []
    with pytest.raises(ZeroDivisionError):
        for_each(range(100), compute, lambda item, _: seen.append(item))
    assert running == [0]
    assert len(seen) < 8

    def stop(item: int, result: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        for_each(range(100, 200), compute, stop)
    assert running == [0]


@pytest.mark.usefixtures("two_threads")
def test_with_one_thread_everything_stays_in_the_caller() -> None:
    torch.set_num_threads(1)
    seen: set[int] = set()
    for_each(range(4), lambda _: threading.get_ident(), lambda _, ident: seen.add(ident))
    assert seen == {threading.get_ident()}


@pytest.mark.usefixtures("two_threads")
def test_a_forward_pass_is_spread_only_where_that_changes_nothing() -> None:
    assert threads_to_spread_over() == 1
    with spread_over_threads(True):
        assert threads_to_spread_over() == 1  # gradients are on
        with torch.no_grad():
            assert threads_to_spread_over() == 2


@pytest.mark.usefixtures("two_threads")
def test_long_sequences_have_the_same_scores_in_several_threads(make_model: Callable, make_sequence: Callable) -> None:
    model = make_model(targets=["y"], block_size=64)
    sequence = make_sequence(5000, seed=1)
    spread = cdi.predict(sequence, model)
    with torch.no_grad():
        np.testing.assert_allclose(spread, model(model.one_hot(sequence)).numpy(), rtol=1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.usefixtures("two_threads")
def test_threads_work_after_a_fork(make_model: Callable) -> None:
    model = make_model(targets=["y"])
    cdi.predict(["ACGT" * 10] * 40, model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forking a process with threads
        child = os.fork()
    if child == 0:
        seen: list[int] = []
        for_each(range(3), lambda item: item, lambda item, _: seen.append(item))
        os._exit(0 if sorted(seen) == [0, 1, 2] else 1)
    deadline = time.monotonic() + 60
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    if ended[0] == 0:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert ended == (child, 0)


def test_models_that_do_not_say_so_are_not_run_in_threads() -> None:
    seen: set[int] = set()

    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.add(threading.get_ident())
            return x[:, 0].sum(1)

    model = cdi.wrap(Net())
    cdi.predict(["ACGT" * 100] * 50, model)
    cdi.ism("ACGT" * 30, model)
    assert seen == {threading.get_ident()}
