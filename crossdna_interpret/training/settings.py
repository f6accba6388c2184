"""The settings of a run, stored in its folder and checked when it continues."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

__all__ = ["SETTINGS", "keep_settings", "require_settings"]

SETTINGS = "run.json"


def keep_settings(
    folder: Path, settings: Mapping[str, Any], *, progress: str, notes: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the settings of a new run to its folder, or check that an existing run has the same settings.

    Args:
        folder: folder of the run. It is created if it does not exist.
        settings: JSON-ready settings. File contents are hashes, under names that begin with "content_".
        progress: name of a file that shows that the folder has a run.
        notes: JSON-ready facts that are stored too and may differ, such as versions.

    Returns:
        Settings and notes, as read from JSON.

    Raises:
        ValueError: the folder has a run with other settings. The message says which, and what to do.
        OSError: the folder is not writable.
    """
    require_settings(folder, settings, progress=progress)
    folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = json.loads(json.dumps({**settings, **notes}))
    rank_zero_only((folder / SETTINGS).write_text)(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def require_settings(folder: Path, settings: Mapping[str, Any], *, progress: str) -> None:
    """Check that an existing run in a folder has these settings.

    Args:
        folder, settings, progress: as for `keep_settings`. Other settings may differ.

    Raises:
        ValueError: the settings differ or cannot be read.
    """
    if not (folder / progress).is_file():
        return
    before = _read(folder / SETTINGS, progress)
    current: dict[str, Any] = json.loads(json.dumps(settings))
    changed = sorted(key for key in current if key not in before or before[key] != current[key])
    if changed:
        differences = " ".join(_difference(key, before, current[key]) for key in changed)
        raise ValueError(
            f"{folder} holds a run with other settings: {', '.join(changed)}. {differences} To continue that run, "
            "restore what it began with. For a new run, use another folder."
        )


def _read(path: Path, progress: str) -> dict[str, Any]:
    problem = "is missing"
    if path.is_file():
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            problem = f"cannot be read ({error})"
        else:
            if isinstance(settings, dict):
                return settings
            problem = "holds no settings"
    raise ValueError(
        f"{path.parent} holds a run, for there is {progress}, but {path.name}, which holds its settings, {problem}. "
        "Restore that file, or use another folder."
    )


def _difference(key: str, before: Mapping[str, Any], now: Any) -> str:
    if key not in before:
        return f"{key}: was not recorded."
    if key.startswith("content_"):
        return f"{key}: what was read is not what the run began with."
    was = before[key]
    if isinstance(was, dict) and isinstance(now, dict):
        parts = [name for name in {**was, **now} if was.get(name) != now.get(name)]
        each = ", ".join(f"{name} was {was.get(name)!r} and is {now.get(name)!r}" for name in parts)
        return f"{key}: {each}."
    return f"{key}: was {was!r} and is {now!r}."
