"""Splitting of work into batches, and the search for the batch size."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from crossdna_interpret.scoring.batch_size import BatchSizeTuner


def paced(
    tuner: BatchSizeTuner, order: list[int], shape: Callable[[int], int], seconds: dict[int, float]
) -> Iterator[list[int]]:
    """The batches, when one of n takes n times what `seconds` says of n."""
    for batch in tuner.batches(order, shape):
        yield batch
        tuner.record(len(batch), len(batch) * seconds.get(len(batch), 0.0))


def test_without_trials_batches_have_the_size_that_was_given() -> None:
    tuner = BatchSizeTuner(4)
    batches = list(paced(tuner, list(range(10)), lambda index: 0, {4: 1.0, 2: 0.1}))
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert tuner.size == 4


def test_what_differs_in_shape_is_not_in_one_batch() -> None:
    order = [3, 1, 4, 5, 9, 2, 6]
    batches = list(paced(BatchSizeTuner(2), order, lambda index: index // 3, {}))
    assert batches == [[3], [1], [4, 5], [9], [2], [6]]


@pytest.mark.parametrize("fastest", [12, 24, 6])
def test_the_fastest_size_is_kept(fastest: int) -> None:
    tuner = BatchSizeTuner(12, [12, 24, 6] * 2)
    seconds = {size: 1.0 if size == fastest else 1.5 for size in (12, 24, 6)}
    batches = list(paced(tuner, list(range(200)), lambda index: 0, seconds))
    assert list(itertools.chain(*batches)) == list(range(200))
    sizes = [len(batch) for batch in batches]
    assert sizes[:6] == [12, 24, 6, 12, 24, 6]
    assert set(sizes[6:-1]) == {fastest}
    assert tuner.size == fastest


def test_a_batch_that_is_not_full_says_nothing_of_its_size() -> None:
    tuner = BatchSizeTuner(12, [12, 24, 6] * 2)
    shapes = [0] * 20 + [1] * 300  # the trial of 24 finds 8 of a shape, which seem to take no time
    batches = list(paced(tuner, list(range(320)), shapes.__getitem__, {12: 1.0, 24: 2.0, 6: 1.5, 8: 0.0}))
    assert [len(batch) for batch in batches][:6] == [12, 8, 6, 12, 24, 6]
    assert tuner.size == 12
    assert {len(batch) for batch in batches[6:-1]} == {12}


@pytest.mark.parametrize("slow", [0, 3])
def test_one_slow_batch_does_not_decide(slow: int) -> None:
    tuner = BatchSizeTuner(12, [12, 24, 6] * 2)
    trials = [12 * 1.0, 24 * 1.5, 6 * 2.0] * 2
    trials[slow] = 100.0
    took = iter(trials)
    for batch in tuner.batches(list(range(200)), lambda index: 0):
        tuner.record(len(batch), next(took, 12.0))
    assert tuner.size == 12
