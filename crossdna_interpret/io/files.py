"""Output files: they are never incomplete and never overwrite unrelated files."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["refuse_foreign", "replacing"]

_START = 4000  # characters that are read to recognise a file


def refuse_foreign(path: Path, is_own: Callable[[str], bool], what: str) -> None:
    """Check that a path may be written: it is free, an empty file, or an earlier output of the same kind.

    Args:
        path: path of the output.
        is_own: whether a text with this beginning is an output of this kind.
        what: the kind of output, for the message.

    Raises:
        FileExistsError: the path is another file.
        OSError: the path is a folder or a device.
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
    """Context that yields a new file to write. At the end it replaces `path`. After an error it is deleted.

    Example:
        >>> import tempfile
        >>> table = Path(tempfile.mkdtemp()) / "table.tsv"
        >>> with replacing(table) as new:
        ...     _ = new.write_text("position")
        >>> table.read_text()
        'position'
    """
    target = path.resolve()  # replace the target of a link, not the link
    new = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        yield new
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)
