"""Output files: written whole or not at all, and never over files of others."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["refuse_foreign", "replacing"]

_START = 4000  # characters by which a file is recognised


def refuse_foreign(path: Path, is_own: Callable[[str], bool], what: str) -> None:
    """Refuse a place where something else is than an earlier output of the same kind, or an empty file.

    Args:
        path: where to write.
        is_own: whether a text that begins like this is such an output.
        what: the kind of output, in words.

    Raises:
        FileExistsError: another file.
        OSError: a folder or a device.
    """
    if not path.exists():
        return
    if not path.is_file():
        raise OSError(f"`out` {path} must be a file, but there is a folder or a device of this name.")
    with path.open("rb") as file:
        start = file.read(_START).decode("utf-8", errors="replace")
    if start and not is_own(start):
        raise FileExistsError(f"`out` {path} exists and is not {what}, so it is not overwritten. Choose another `out`.")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file to write in the body. It takes the place of `path` when the body ends, and is gone if that fails.

    Example:
        >>> import tempfile
        >>> table = Path(tempfile.mkdtemp()) / "table.tsv"
        >>> with replacing(table) as new:
        ...     _ = new.write_text("position")
        >>> table.read_text()
        'position'
    """
    target = path.resolve()  # the file that a link leads to, and not the link
    new = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        yield new
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)
