"""Results on disk, found again by all that they depend on.

One SQLite file, which only the process of the sweep writes: a transaction for every batch of
results, so that each is there whole or not at all, and 10 000 of them are read in a fraction of a
second. Beside it lie the checkpoints of runs that are under way.
"""

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .._basics.checks import check_path
from .._basics.errors import InputError
from .._basics.files import lock

__all__ = ["FORMAT", "Store"]

FORMAT = 1  # of the table, in SQLite's user_version
_APPLICATION = 0x66776473  # SQLite's application_id
_FILE = "results.sqlite"
_AT_ONCE = 500  # keys of one question


class Store:
    """A folder of results, and of the checkpoints of runs; a context manager.

    Parameters
    ----------
    folder
        The folder; made if absent.
    name
        What the argument is called where the folder is not right.

    Raises
    ------
    InputError
        If it cannot be made, or is not writable, or holds a store of another version or none, or
        another process writes to it.
    """

    def __init__(self, folder: Any, name: str = "store") -> None:
        wanted = "a folder that is writable or can be made"
        self._name, self.folder = name, check_path(name, folder, wanted)
        expected = f"expected {name} = {wanted}, got {str(folder)!r}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise InputError(f"{expected}, which is not writable")
            self._lock = lock(self.folder / "lock")
        except OSError as error:
            raise InputError(f"{expected} ({error.strerror})") from None
        if self._lock is None:
            raise InputError(
                f"expected {name} = a folder that no other sweep is writing to, got {str(folder)!r}"
            )
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let others write."""
        self._db.close()
        with contextlib.suppress(OSError):  # there are checkpoints, or never were any
            (self.folder / "runs").rmdir()
        self._lock.release()

    def _open(self) -> None:
        with self._whole():
            self._db = sqlite3.connect(self.folder / _FILE, isolation_level=None)
        try:
            with self._whole():
                self._check()
        except BaseException:
            self._db.close()
            raise

    def _check(self) -> None:
        """Make the table in a new file; refuse a file of another version."""
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (application, version, tables) == (0, 0, 0):
            self._db.executescript(
                "BEGIN IMMEDIATE;"
                f"PRAGMA application_id = {_APPLICATION};"
                f"PRAGMA user_version = {FORMAT};"
                "CREATE TABLE results (key TEXT PRIMARY KEY, about TEXT, result TEXT) "
                "WITHOUT ROWID;"
                "COMMIT"
            )
        elif (application, version) != (_APPLICATION, FORMAT):
            what = f"one of version {version}" if application == _APPLICATION else "another one"
            raise InputError(
                f"expected {self._name} = a store of version {FORMAT}, as this finwidth writes it, "
                f"got {what} in {str(self.folder / _FILE)!r}: name another folder"
            )
        self._db.execute(f"PRAGMA user_version = {FORMAT}")  # can it be written?

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """Say in one line what is wrong with the file."""
        file = str(self.folder / _FILE)
        try:
            yield
        except sqlite3.OperationalError as error:  # of the system: no space, no permission
            raise InputError(
                f"expected {self._name} = a folder that can be read and written, got {file!r} "
                f"({error})"
            ) from None
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            raise InputError(
                f"expected {self._name} = a whole store, got a damaged {file!r} ({error}); "
                "remove it to have its results computed anew"
            ) from None

    def read(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the results that there are of some keys."""
        wanted, found = list(dict.fromkeys(keys)), {}
        with self._whole():
            for begin in range(0, len(wanted), _AT_ONCE):
                some = wanted[begin : begin + _AT_ONCE]
                marks = ",".join("?" * len(some))
                question = f"SELECT key, result FROM results WHERE key IN ({marks})"
                for key, text in self._db.execute(question, some):
                    found[key] = dict(json.loads(text))
        return found

    def write(self, results: Iterable[tuple[str, dict[str, Any], dict[str, Any]]]) -> None:
        """Store results, all or none: of each its key, what it depends on, and the numbers."""
        rows = [(key, json.dumps(about), json.dumps(result)) for key, about, result in results]
        if not rows:
            return
        with self._whole():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?)", rows)
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def checkpoint(self, key: str) -> Path:
        """Return the folder of a run's checkpoint; that of all of them is there afterwards."""
        folder = self.folder / "runs"
        folder.mkdir(exist_ok=True)
        return folder / key[:16]

    def drop_checkpoint(self, key: str) -> None:
        """Remove the checkpoint of a run whose result is stored."""
        shutil.rmtree(self.folder / "runs" / key[:16], ignore_errors=True)
