"""Every finished batch, a line each, in a file that only grows: what a run that was killed goes on from.

The first line says what is generated. A line that is cut off was being written when the run was killed, and is dropped.
Knows batches and records; generates nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gptloop.batch.plan import Batch, Record
from gptloop.console import strict_json
from gptloop.values import shown

SUFFIX = ".unfinished"


class Journal:
    """The journal of one output; for one process at a time.

    Args:
        output: Where the results are to be in the end; the journal stands beside it.

    Attributes:
        path: The journal.
        facts: What is generated, as a run before wrote it; None in a new journal.
        finished: How many prompts are.
        errors: How many of these have an error.

    Raises:
        OSError: If it cannot be opened, or another process writes it.
        ValueError: If it is no journal, or damaged.
    """

    def __init__(self, output: Path):
        self.path = output.with_name(output.name + SUFFIX)
        self.facts: dict[str, Any] | None = None
        self.finished = self.errors = 0
        self._windows: dict[int, str] = {}  # the SHA-256 of each window that has a finished batch
        self._open: dict[int, set[int]] = {}  # the finished batches of windows that lack some
        self._file = _open_locked(self.path)
        try:
            self._read()
        except BaseException:
            os.close(self._file)
            raise

    def begin(self, facts: dict[str, Any]) -> None:
        """Say what is generated.

        Raises:
            ValueError: If a run before generated something else; what differs is named.
            OSError: If it cannot be written.
        """
        if self.facts is None:
            self._append({"gptloop batch": facts})
            return
        begun, now = self.facts, json.loads(strict_json(facts))
        if different := [name for name in {**now, **begun} if now.get(name) != begun.get(name)]:
            name = different[0]
            was, is_ = (shown(of[name]) if name in of else "at its default" for of in (begun, now))
            raise ValueError(
                f"{self.path} was begun with {name} {was}, this is {is_}: give the same, or remove it to begin anew"
            )

    def has_window(self, number: int, sha256: str) -> bool:
        """Whether all of a window is finished.

        Raises:
            ValueError: If its prompts were others.
        """
        if self._windows.get(number, sha256) != sha256:
            raise ValueError(f"the prompts have changed since {self.path} was begun: remove it to begin anew")
        return number in self._windows and number not in self._open

    def has(self, batch: Batch) -> bool:
        """Whether a batch is finished."""
        return batch.number in self._open.get(batch.window, ())

    def add(self, batch: Batch, records: list[Record]) -> None:
        """Keep a finished batch; it is on the disk when this returns.

        Raises:
            OSError: If it cannot be written. The journal is as before, and can be gone on from.
        """
        results = [[item.number, record] for item, record in zip(batch.items, records, strict=True)]
        self._append({"window": [batch.window, batch.number, batch.of, batch.sha256], "results": results})
        self._count(batch.window, batch.number, batch.of, batch.sha256, results)

    def records(self) -> Iterator[Record]:
        """All records in the order of their prompts; holds those of some windows at a time.

        Raises:
            ValueError: If some prompt's is missing.
        """
        waiting: dict[int, Record] = {}
        number = 0
        for entry in self._entries():
            waiting.update(entry.get("results", ()))
            while number in waiting:
                yield waiting.pop(number)
                number += 1
        if waiting:
            raise ValueError(f"{self.path} is damaged: it lacks the result of prompt {number + 1}")

    def remove(self) -> None:
        """The output is there."""
        os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Let another process have it; one with nothing in it leaves no file."""
        if not os.fstat(self._file).st_size:
            self.path.unlink(missing_ok=True)
        os.close(self._file)

    def _read(self) -> None:
        """Learn what is finished, and cut off what was being written."""
        for entry in self._entries():
            if self.facts is None:
                self.facts = entry.get("gptloop batch") if isinstance(entry, dict) else None
                if not isinstance(self.facts, dict):
                    raise ValueError(f"{self.path} is no journal of gptloop batch")
            else:
                try:
                    window, number, of, sha256 = entry["window"]
                    self._count(window, number, of, sha256, entry["results"])
                except (KeyError, TypeError, ValueError) as error:
                    raise self._damaged(f"no batch: {shown(entry)}") from error
        os.ftruncate(self._file, self._whole)

    def _entries(self) -> Iterator[Any]:
        self._whole = 0  # bytes of whole lines
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    return
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise self._damaged(str(error)) from error
                self._whole += len(line)

    def _damaged(self, what: str) -> ValueError:
        """The error of the line that is read."""
        return ValueError(f"{self.path} is damaged at byte {self._whole}: {what}")

    def _count(self, window: int, number: int, of: int, sha256: str, results: list[Any]) -> None:
        self._windows[window] = sha256
        finished = self._open.setdefault(window, set())
        finished.add(number)
        if len(finished) == of:
            del self._open[window]
        self.finished += len(results)
        self.errors += sum("error" in record for _, record in results)

    def _append(self, entry: dict[str, Any]) -> None:
        line = memoryview(strict_json(entry).encode() + b"\n")
        end = os.lseek(self._file, 0, os.SEEK_END)
        try:
            while line:
                line = line[os.write(self._file, line) :]
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, end)
            words = f"cannot write {self.path}: {error.strerror}; started again, it goes on"
            raise OSError(error.errno, words) from error


def _open_locked(path: Path) -> int:
    """The descriptor of a file for this process alone, made if it is not there.

    Raises:
        OSError: If it cannot be opened, or another process has it.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with contextlib.ExitStack() as if_not_kept:
            if_not_kept.callback(os.close, file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OSError(f"another process is writing {path}") from error
            with contextlib.suppress(FileNotFoundError):
                # Its owner may have removed it between the two calls: then the next one locks another file.
                if os.path.samestat(os.fstat(file), path.stat()):
                    if_not_kept.pop_all()
                    return file
