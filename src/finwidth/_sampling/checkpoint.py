"""Checkpoints: blocks of draws and the sampler's state, written so that no kill can lose them.

A checkpoint is a folder: ``run.json`` says which run it belongs to, ``block-….npz`` hold draws,
``state.npz`` the chains' state after the last block and the digests of all blocks. A block is on
disk before the state that counts it, each file appears under its name only when it is whole, and
every file carries its digest: after a kill the folder holds the run up to some block, and a file
that was cut short or changed is refused.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np

from .._basics.errors import InputError
from .._basics.files import atomic_path, lock

__all__ = ["Checkpoint"]

_FORMAT = 2


class Checkpoint:
    """The checkpoint of one run; a context manager that keeps other processes out.

    Parameters
    ----------
    path
        The folder; made if it does not exist.
    run
        What the run is, in JSON types: its draws are continued only by the same run.
    unset
        Names of entries of `run` that nobody asked for: an earlier run's value replaces them.

    Attributes
    ----------
    run
        What the run is, such values included.

    Raises
    ------
    InputError
        If the folder cannot be used, belongs to another run (the difference is named), is in use
        by another process, or is damaged.
    """

    def __init__(self, path: Any, run: dict[str, Any], unset: Collection[str] = ()) -> None:
        self._folder = Path(path).expanduser()
        expected = "expected checkpoint = a folder of an earlier run of the same call, or a new one"
        try:
            if self._folder.exists() and not self._folder.is_dir():
                raise InputError(f"{expected}, got the file {str(path)!r}")
            self._folder.mkdir(exist_ok=True)
            self._lock = lock(self._folder / "lock")
        except OSError as error:
            raise InputError(f"{expected}, got {str(path)!r} ({error.strerror})") from error
        if self._lock is None:
            raise InputError(f"{expected}, got {str(path)!r}, which another process is writing")
        self._unwritten: dict[str, Any] | None = None
        try:
            self.run = self._check_run({"format": _FORMAT} | run, unset)
            for left in self._folder.glob(".*.tmp*"):  # of a run that was killed while it wrote
                with contextlib.suppress(OSError):
                    left.unlink()
            self._digests: list[str] = []
            self._stored = self._read_run()
        except BaseException:
            self.close()
            raise

    def _check_run(self, run: dict[str, Any], unset: Collection[str]) -> dict[str, Any]:
        """Return the record of the run, the earlier one's values for the names in `unset`.

        It is written with the first state: a call that is refused binds nobody.
        """
        record = self._folder / "run.json"
        run = json.loads(json.dumps(run))
        if not record.exists():
            if any(self._folder.glob("*.npz")):
                raise self._damaged("run.json", "missing")
            self._unwritten = run
            return run
        try:
            earlier = json.loads(self._read("run.json"))
        except ValueError:
            raise self._damaged("run.json", "not JSON") from None
        run |= {name: earlier[name] for name in unset if name in earlier}
        for name in sorted({*run, *earlier}):
            ours, theirs = run.get(name), earlier.get(name)
            if ours != theirs:
                raise InputError(
                    f"expected a checkpoint of the same run, got {name} = {theirs!r} in "
                    f"{str(self._folder)!r} and {ours!r} in this call"
                )
        return run

    def _read_run(self) -> tuple[dict, dict, list[dict[str, np.ndarray]]] | None:
        """Read and check the run so far: leaves of the state, progress, blocks of draws."""
        if not (self._folder / "state.npz").exists():
            return None
        state = self._arrays("state.npz")
        try:
            progress = json.loads(str(state.pop("progress")))
            self._digests = progress.pop("blocks")
        except (KeyError, ValueError):
            raise self._damaged("state.npz", "no record of progress") from None
        blocks = [
            self._arrays(self._block_name(n), expected) for n, expected in enumerate(self._digests)
        ]
        return state, progress, blocks

    def load(self, template: Any) -> tuple[Any, dict[str, Any], list[dict[str, np.ndarray]]] | None:
        """Return (state, progress, blocks of draws) of the run so far, or None if it is new.

        Parameters
        ----------
        template
            A state of the same structure, as a new run starts from.
        """
        if self._stored is None:
            return None
        state, progress, blocks = self._stored
        self._stored = None
        leaves, structure = jax.tree.flatten(template)
        stored = [state.get(f"leaf{n}") for n in range(len(leaves))]
        for ours, theirs in zip(leaves, stored, strict=True):
            if theirs is None or theirs.shape != ours.shape or theirs.dtype != ours.dtype:
                raise InputError(
                    "expected a checkpoint of this version of the sampler, got a state of another "
                    f"layout in {str(self._folder)!r}"
                )
        restored = [
            jax.device_put(theirs, ours.sharding)
            for ours, theirs in zip(leaves, stored, strict=True)
        ]
        return jax.tree.unflatten(structure, restored), progress, blocks

    def write(
        self, state: Any, progress: dict[str, Any], block: dict[str, np.ndarray] | None
    ) -> None:
        """Add a block of draws, if there is one, and the state after it."""
        if self._unwritten is not None:
            self._write("run.json", json.dumps(self._unwritten, indent=1).encode())
            self._unwritten = None
        if block is not None:
            payload = _pack(block)
            self._write(self._block_name(len(self._digests)), payload)
            self._digests.append(hashlib.sha256(payload).hexdigest())
        leaves = {f"leaf{n}": np.asarray(leaf) for n, leaf in enumerate(jax.tree.leaves(state))}
        record = json.dumps(progress | {"blocks": self._digests})
        self._write("state.npz", _pack(leaves | {"progress": np.asarray(record)}))

    def close(self) -> None:
        """Let other processes use the folder."""
        self._lock.release()

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @staticmethod
    def _block_name(number: int) -> str:
        return f"block-{number:06d}.npz"

    def _write(self, name: str, payload: bytes) -> None:
        with atomic_path(self._folder / name) as temporary:
            temporary.write_bytes(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)

    def _read(self, name: str) -> bytes:
        try:
            content = (self._folder / name).read_bytes()
        except OSError as error:
            raise self._damaged(name, error.strerror or "unreadable") from error
        head, _, payload = content.partition(b"\n")
        if head != hashlib.sha256(payload).hexdigest().encode():
            raise self._damaged(name, "its content does not match its digest")
        return payload

    def _arrays(self, name: str, expected: str | None = None) -> dict[str, np.ndarray]:
        payload = self._read(name)
        if expected is not None and hashlib.sha256(payload).hexdigest() != expected:
            raise self._damaged(name, "it belongs to another run")
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}

    def _damaged(self, name: str, reason: str) -> InputError:
        return InputError(
            f"expected checkpoint = whole files, got a damaged {name} in {str(self._folder)!r} "
            f"({reason}); remove the folder to start anew"
        )


def _pack(arrays: dict[str, np.ndarray]) -> bytes:
    # keys may hold ':', which is fine in an archive that only this module reads
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()
