"""Scores kept in a folder as they come, so that an interrupted run goes on where it was. numpy only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

__all__ = ["Kept"]


class Kept:
    """The scores of one job, in one file of a folder; jobs are told apart by what they ask.

    The file is a row of records, index and scores, in the order in which they came. A record that was cut short by
    the end of a process is dropped.
    """

    def __init__(self, file: BinaryIO | None, record: np.dtype, done: set[int]) -> None:
        self._file, self._record, self.done = file, record, done

    @classmethod
    def open(cls, folder: str | Path | None, key: tuple[object, ...] | None, scores: np.ndarray) -> Kept:
        """What is there for a job; it is written into `scores` (n, T).

        Args:
            folder: made if it is not there; None keeps nothing.
            key: what the job asks; another key is another file.
            scores: (n, T), whose rows are filled where they are known.

        Raises:
            ValueError: `folder` is a file.
        """
        record = np.dtype([("index", "<i8"), ("scores", scores.dtype.newbyteorder("<"), (scores.shape[1],))])
        if folder is None:
            return cls(None, record, set())
        place = Path(folder)
        if place.exists() and not place.is_dir():
            raise ValueError(f"`keep` must be a folder, but {place} is a file.")
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}.scores"
        known = np.empty(0, dtype=record)
        if path.exists():
            whole = path.stat().st_size // record.itemsize
            known = np.fromfile(path, dtype=record, count=whole)
            known = known[(known["index"] >= 0) & (known["index"] < len(scores))]
            scores[known["index"]] = known["scores"]
            os.truncate(path, whole * record.itemsize)
        return cls(path.open("ab"), record, set(known["index"].tolist()))

    def add(self, indices: Sequence[int], scores: np.ndarray) -> None:
        """Keep the scores (n, T) of some edits; they are on disk when this returns."""
        if self._file is None:
            return
        records = np.empty(len(indices), dtype=self._record)
        records["index"], records["scores"] = indices, scores
        self._file.write(records.tobytes())
        self._file.flush()

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
