"""Long tables of many targets that need little memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["target_table"]

_BYTES = 64  # memory for each row, with temporary arrays


def target_table(
    columns: Mapping[str, Any],
    targets: Sequence[str],
    chosen: Sequence[str] | str | None,
    predictions: np.ndarray,
    reference: np.ndarray,
) -> pd.DataFrame:
    """Table with a row for each item and target: the item's columns, target, prediction, and delta from the reference.

    Args:
        columns: columns of the n items.
        targets: names of the T targets.
        chosen: names of the targets to include. The default is all.
        predictions: (n, T).
        reference: (T,).

    Raises:
        ValueError: an unknown target, or a name of several targets.
        MemoryError: the table does not fit in memory. The message says how many targets would fit.
    """
    import pandas as pd

    names = list(targets) if chosen is None else [chosen] if isinstance(chosen, str) else list(chosen)
    position = {name: at for at, name in enumerate(targets)}
    unknown = [name for name in names if name not in position]
    if unknown:
        raise ValueError(f"`targets` must be among the {len(targets)} of the result, but {unknown[:3]} are not.")
    count, available = len(predictions), psutil.virtual_memory().available
    need = _BYTES * count * len(names)
    if need > available:
        raise MemoryError(
            f"A table of {count:,} rows for each of {len(names):,} targets needs about {need / 1e9:.1f} GB, and "
            f"{available / 1e9:.1f} GB is free. About {available // (_BYTES * count):,} would fit: choose `targets`."
        )
    twice = [name for name in names if list(targets).count(name) > 1] if chosen is not None else []
    if twice:
        raise ValueError(f"`targets`: {twice[0]!r} is the name of several targets of the result.")
    index = np.arange(len(names)) if chosen is None else np.array([position[name] for name in names], dtype=np.int64)
    table: dict[str, Any] = {}
    for name, values in columns.items():
        array = np.asarray(values)
        if array.dtype.kind in "UO":  # object dtype, so that equal texts are stored once
            codes, levels = pd.factorize(array.astype(object))
            array = np.asarray(levels, dtype=object)[codes]
        table[name] = np.tile(array, len(names))
    table["target"] = np.repeat(np.array(names, dtype=object), count)
    of_target = predictions[:, index].T
    table["prediction"] = of_target.ravel()
    table["delta"] = (of_target - reference[index, None]).ravel()
    return pd.DataFrame(table)
