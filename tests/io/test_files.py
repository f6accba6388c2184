"""Written files are never incomplete, and unrelated files are not overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crossdna_interpret.io.files import refuse_foreign, replacing


def test_a_file_is_replaced_when_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    for text in ("first", "second"):
        with replacing(path) as new:
            new.write_text(text)
            assert new.parent == tmp_path  # a move between disks would not be whole
        assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as new:
            new.write_text("half of i")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no symbolic links")
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, path = tmp_path / "link.tsv", tmp_path / "there" / "table.tsv"
    path.write_text("old")
    link.symlink_to(path)
    with replacing(link) as new:
        new.write_text("new")
    assert link.is_symlink()
    assert path.read_text() == "new"


def test_only_files_of_the_same_kind_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"

    def ours(start: str) -> bool:
        return start.startswith("name\t")

    refuse_foreign(path, ours, "a table")  # there is nothing yet
    for content in (b"", b"name\tposition\n" + b"x" * 10_000):
        path.write_bytes(content)
        refuse_foreign(path, ours, "a table")
    for content in (b"\n", b"sequence\n", bytes(range(256)), "näme".encode("utf-16")):
        path.write_bytes(content)
        with pytest.raises(FileExistsError, match=r"table\.tsv exists and is not a table, so it is not overwritten"):
            refuse_foreign(path, ours, "a table")
    with pytest.raises(OSError, match="must be a file, but there is a folder or a device"):
        refuse_foreign(tmp_path, ours, "a table")
