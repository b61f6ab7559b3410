"""Writes that either happened or did not: a kill or a power cut leaves no half file under a final name.

Everything is written under a temporary name in the same folder, flushed to the disk and renamed, and the
folder is flushed too. What a killed process leaves behind has a name that begins with `.tmp-` or `.old-`;
`sweep` deals with it. Files are private to the user (0600, folders 0700) whatever the umask.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ponder.core.errors import ResourceError

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600
TEMPORARY = ".tmp-"
REPLACED = ".old-"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents, private to the user; an existing folder keeps its mode."""
    with disk_errors(path):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            with suppress(FileExistsError):  # another process made it first, which is as good
                folder.mkdir(mode=PRIVATE_FOLDER)
                folder.chmod(PRIVATE_FOLDER)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "it is a file, not a folder", str(path))


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the content of a file, creating it and its folder when missing.

    Raises:
        ResourceError: If the disk is full, read-only or not ours; the old content is then untouched.
    """
    with atomic_file(path, needed_bytes=len(data)) as temporary:
        temporary.write_bytes(data)


@contextmanager
def atomic_file(path: Path, needed_bytes: int = 0) -> Iterator[Path]:
    """Yields a temporary path beside `path`; what was written there is renamed into place on success only."""
    make_folder(path.parent)
    temporary = _temporary_beside(path)
    with disk_errors(path, needed_bytes):
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_FILE))
            yield temporary
            _flush_file(temporary)
            os.replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary sibling folder that takes the place of `path` on success and is removed on error.

    A folder that is replaced is first set aside as `.old-NAME`; if the process dies before the new one stands
    in its place, `settle` puts the old one back.
    """
    make_folder(path.parent)
    settle(path.parent)
    temporary = _temporary_beside(path)
    with disk_errors(path):
        try:
            temporary.mkdir(mode=PRIVATE_FOLDER)
            yield temporary
            _flush_tree(temporary)
            _take_place(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def settle(folder: Path) -> None:
    """Tidy what killed writers left in a folder: replaced folders are put back or dropped.

    Temporary files are left alone, because their writer may be alive; `sweep` removes them.
    """
    with disk_errors(folder):
        for aside in folder.glob(f"{REPLACED}*"):
            standing = folder / aside.name.removeprefix(REPLACED)
            if standing.exists():
                shutil.rmtree(aside, ignore_errors=True)
            else:
                os.rename(aside, standing)
                sync_folder(folder)


def sweep(root: Path) -> None:
    """`settle` every folder below `root` and remove temporary files; only for a caller that owns them all."""
    for folder, _, _ in os.walk(root):
        settle(Path(folder))
        for leftover in Path(folder).glob(f"{TEMPORARY}*"):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot flush folders
            raise
    finally:
        os.close(descriptor)


def require_space(folder: Path, needed_bytes: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        ResourceError: If fewer than `needed_bytes` are free where `folder` is or will be.
    """
    if free_bytes(folder) < needed_bytes:
        raise _full_disk(folder, needed_bytes)


def free_bytes(path: Path) -> int:
    """Free space on the disk that holds `path` or will hold it."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


@contextmanager
def disk_errors(path: Path, needed_bytes: int = 0) -> Iterator[None]:
    """Turn what the operating system says about writing `path` into a `ResourceError`."""
    try:
        yield
    except ResourceError:
        raise  # an inner block named the path already
    except Exception as error:
        if (full := full_disk(error, path, needed_bytes)) is not None:
            raise full from error
        if not isinstance(error, OSError):
            raise
        raise ResourceError(f"cannot write: {error.strerror or error}", where=str(path), fix=_fix(error)) from error


def full_disk(error: Exception, path: Path, needed_bytes: int = 0) -> ResourceError | None:
    """The error to raise instead when this one means that the disk is full, None when it does not."""
    # Native writers report a full disk in words of their own.
    if (isinstance(error, OSError) and error.errno in _FULL) or "os error 28" in str(error):
        return _full_disk(path, needed_bytes)
    return None


def _full_disk(path: Path, needed_bytes: int) -> ResourceError:
    needed = f"{megabytes(needed_bytes)} needed, " if needed_bytes else ""
    return ResourceError(
        f"the disk is full: {needed}{megabytes(free_bytes(path))} free",
        where=str(path),
        fix="free some space, then run the same command again: it resumes. Or choose another disk with --out",
    )


def megabytes(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 1e6:,.1f} MB"


def _fix(error: OSError) -> str:
    if error.errno == errno.ENAMETOOLONG:
        return "choose a shorter path with --out"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "choose a folder that you may write to with --out"
    return "check the path, or choose another folder with --out"


def _temporary_beside(path: Path) -> Path:
    return path.parent / f"{TEMPORARY}{secrets.token_hex(8)}"


def _flush_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fchmod(descriptor, PRIVATE_FILE)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_tree(root: Path) -> None:
    for folder, _, names in os.walk(root):
        os.chmod(folder, PRIVATE_FOLDER)
        for name in names:
            _flush_file(Path(folder, name))
        sync_folder(Path(folder))


def _take_place(temporary: Path, path: Path) -> None:
    aside = path.parent / f"{REPLACED}{path.name}"
    if path.exists():
        os.rename(path, aside)
    os.rename(temporary, path)
    sync_folder(path.parent)
    shutil.rmtree(aside, ignore_errors=True)
