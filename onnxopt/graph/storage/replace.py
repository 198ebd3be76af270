"""Writes files so that each is there whole or not at all, whatever interrupts the writing.

A draft is written beside its target and locked as long as its writer lives; a rename then puts it
in the target's place at once. What a killed writer left behind is a draft that nobody locks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_SUFFIX = ".onnxopt-tmp"


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A file that is being written to take the place of `target`."""

    target: Path
    path: Path
    file: IO[bytes]


@contextlib.contextmanager
def draft(target: Path, *, owner: Path) -> Iterator[Draft]:
    """Open a draft of `target`, with the permissions of `owner` if that exists.

    `owner` is the file for whose sake this is written; `abandoned` finds its drafts. The draft is
    removed in the end, unless `publish` has renamed it.
    """
    path = _name(owner)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, "wb", buffering=1 << 18) as file:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(descriptor, stat.S_IMODE(owner.stat().st_mode))
            yield Draft(target=target, path=path, file=file)
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def remembered(owner: Path) -> Iterator[None]:
    """Keep what `owner` was as a draft, until the files that only it referred to are gone.

    Where this process is killed before they are, the next one finds the draft and removes them.
    """
    path = _name(owner)
    # Some file systems have no links: then such files stay behind.
    with contextlib.suppress(OSError):
        path.hardlink_to(owner)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def publish(drafts: list[Draft]) -> None:
    """Rename the drafts to their targets, on the disk too; the last one makes it count.

    The others are new files that nothing but the last refers to: they are there before it, and
    where it does not come to be, they go again.
    """
    for each in drafts:
        each.file.flush()
        os.fsync(each.file.fileno())
    try:
        for each in drafts:
            each.path.rename(each.target)
    except BaseException:
        if drafts[-1].path.exists():
            for each in drafts[:-1]:
                if not each.path.exists():
                    each.target.unlink(missing_ok=True)
        raise
    _sync_folder(drafts[-1].target.parent)


def abandoned(owner: Path) -> list[Path]:
    """Return the drafts for `owner` whose writers are gone."""
    found = []
    for path in owner.parent.iterdir():
        if path.name.startswith(f".{owner.name}.") and path.name.endswith(_SUFFIX):
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found.append(path)
    return found


def _name(owner: Path) -> Path:
    return owner.with_name(f".{owner.name}.{os.urandom(4).hex()}{_SUFFIX}")


def _sync_folder(folder: Path) -> None:
    # Some network file systems cannot; the rename has happened all the same.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
