"""A folder of cached scores, from which an interrupted run continues. Needs only numpy."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

__all__ = ["ScoreCache"]

_FORMAT = "crossdna_interpret scores 2"


class ScoreCache:
    """The scores of one job, which is identified by its key.

    Each run of a job writes its own file, and reads the files of earlier and simultaneous runs. A file begins with a
    line of JSON that describes its content. Records follow, each with index, scores and checksum. Incomplete and
    damaged records are ignored.
    """

    def __init__(self, path: Path | None, header: bytes, record: np.dtype, done: set[int]) -> None:
        self._path, self._header, self._record, self.done = path, header, record, done
        self._file: BinaryIO | None = None

    @classmethod
    def open(cls, folder: str | Path | None, key: tuple[object, ...] | None, scores: np.ndarray) -> ScoreCache:
        """Open the cache of a job and write its known scores into `scores` (n, T).

        Args:
            folder: the cache folder. It is created if it does not exist. With None, nothing is saved.
            key: everything that the scores depend on. Each key has its own files.
            scores: (n, T), its known rows are filled.

        Raises:
            ValueError: `folder` is a file.
        """
        kind = scores.dtype.newbyteorder("<")
        record = np.dtype([("check", "<u4"), ("index", "<i8"), ("scores", kind, (scores.shape[1],))])
        if folder is None:
            return cls(None, b"", record, set())
        place = Path(folder)
        if place.exists() and not place.is_dir():
            raise ValueError(f"`cache` must be a folder, but {place} is a file.")
        place.mkdir(parents=True, exist_ok=True)
        job = hashlib.sha256(repr(key).encode()).hexdigest()
        content = {"format": _FORMAT, "job": job, "edits": len(scores), "targets": scores.shape[1], "dtype": kind.str}
        header = (json.dumps(content) + "\n").encode()
        done: set[int] = set()
        for path in sorted(place.glob(f"{job[:24]}.*.scores")):
            if not path.is_file():
                continue
            known = _records(path, header, record)
            known = known[(known["index"] >= 0) & (known["index"] < len(scores))]
            scores[known["index"]] = known["scores"]
            done.update(known["index"].tolist())
        return cls(place / f"{job[:24]}.{uuid.uuid4().hex[:12]}.scores", header, record, done)

    def add(self, indices: Sequence[int], scores: np.ndarray) -> None:
        """Store the scores (n, T) of some edits. When this returns, the operating system has them."""
        if self._path is None:
            return
        if self._file is None:
            self._file = self._path.open("xb")
            self._file.write(self._header)
        records = np.empty(len(indices), dtype=self._record)
        records["index"], records["scores"] = indices, scores
        records["check"] = _checks(records)
        self._file.write(records.tobytes())
        self._file.flush()

    def __enter__(self) -> ScoreCache:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()


def _records(path: Path, header: bytes, record: np.dtype) -> np.ndarray:
    """The undamaged records of a file. None if the file has another content."""
    with path.open("rb") as file:
        if file.readline(len(header)) != header:
            return np.empty(0, dtype=record)
        whole = (os.fstat(file.fileno()).st_size - len(header)) // record.itemsize
        known = np.frombuffer(file.read(whole * record.itemsize), dtype=record)
    return known[known["check"] == _checks(known)]


def _checks(records: np.ndarray) -> np.ndarray:
    content = np.ascontiguousarray(records).view(np.uint8).reshape(len(records), -1)[:, 4:]
    return np.array([zlib.crc32(row.tobytes()) for row in content], dtype=np.uint32)
