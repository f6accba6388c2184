"""Freed memory is kept with glibc, and only in the process that requests it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from crossdna_interpret.training import allocation


def test_glibc_takes_every_setting() -> None:
    code = "from crossdna_interpret.training.allocation import keep_freed_memory; print(keep_freed_memory())"
    report = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    glibc = sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc"
    assert report == str(glibc)


def test_another_system_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation.sys, "platform", "darwin")
    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda *_: pytest.fail("loads a library"))
    assert allocation.keep_freed_memory() is False


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(allocation.sys, "platform", "linux")
    monkeypatch.setattr(allocation.ctypes, "CDLL", missing)
    assert allocation.keep_freed_memory() is False
