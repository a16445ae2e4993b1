"""The one object through which tasks and data sets get bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from maple.errors import SourceError
from maple.files.hub import Hub, hub_origin


class Files:
    """A directory of upstream release files or, without one, the Hub."""

    def __init__(self, *, directory: Path | None = None, hub: Hub | None = None) -> None:
        """Chooses where bytes come from.

        Args:
            directory: release files, read *instead of* the Hub.
            hub: the client to use without a directory; made anew when None.

        Raises:
            SourceError: the directory does not exist.
        """
        if directory is not None and not directory.is_dir():
            raise SourceError(
                f"the data directory {directory} does not exist. Check --data-dir, or data: in the "
                "study."
            )
        self.directory = directory
        self.hub = hub or Hub()
        self._digests: dict[tuple[Path, int, int], str] = {}

    @property
    def label(self) -> str:
        """``directory`` or ``hub``."""
        return "hub" if self.directory is None else "directory"

    def find(
        self,
        *,
        local: Sequence[str],
        repo: str | None = None,
        patterns: Sequence[str] = (),
        revision: str | None = None,
    ) -> list[Path]:
        """Returns the files of the first pattern that matches any, fetched if need be.

        Args:
            local: glob patterns relative to the directory, best first.
            repo: Hub repository of the data set; None where it has none.
            patterns: fnmatch patterns over the repository's files, best first.
            revision: branch, tag or commit in the repository.

        Returns:
            Paths sorted by code point.

        Raises:
            SourceError: no pattern matches, or the Hub cannot give the files.
        """
        if self.directory is not None:
            return self._find_local(self.directory, local)
        if repo is None:
            raise SourceError(
                f"{' or '.join(local)} is not on the Hub. Name the directory that holds it with "
                "--data-dir."
            )
        return self.hub.data_files(repo, patterns, revision)

    def has(self, local: Sequence[str]) -> bool:
        """Whether any pattern matches in the directory; True when reading from the Hub."""
        if self.directory is None:
            return True
        return any(next(_glob(self.directory, p), None) is not None for p in local)

    def fingerprint(self, paths: Sequence[Path]) -> str:
        """Identifies the data in files, wherever the files are kept.

        Returns:
            ``sha256:<16 hex>`` over the names and contents of local files (names relative to the
            directory, else bare), or ``hub:<repo>@<commit>``; several Hub sources joined by ``+``.

        Raises:
            SourceError: a file cannot be read.
        """
        origins = [hub_origin(p) if self.directory is None else None for p in paths]
        named = [o for o in origins if o is not None]
        if paths and len(named) == len(paths):
            return "+".join(sorted(set(named)))
        lines = sorted(f"{self._name(p)}\0{self._digest(p)}\n" for p in paths)
        return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()[:16]}"

    def _find_local(self, directory: Path, local: Sequence[str]) -> list[Path]:
        for pattern in local:
            found = sorted(_glob(directory, pattern), key=lambda p: p.as_posix())
            if found:
                return found
        raise SourceError(
            f"{directory} holds no {' or '.join(local)}. {_holdings(directory, local[0])} "
            "Put the upstream release file there, or leave out --data-dir to read from the Hub."
        )

    def _name(self, path: Path) -> str:
        if self.directory is not None and path.is_relative_to(self.directory):
            return path.relative_to(self.directory).as_posix()
        return path.name

    def _digest(self, path: Path) -> str:
        try:
            status = path.stat()
            key = (path, status.st_size, status.st_mtime_ns)
            if key not in self._digests:
                with path.open("rb") as handle:
                    self._digests[key] = hashlib.file_digest(handle, "sha256").hexdigest()
        except OSError as error:
            raise SourceError(f"{path}: cannot be read ({error.strerror}).") from error
        return self._digests[key]


def _glob(directory: Path, pattern: str) -> Iterator[Path]:
    return (p for p in directory.glob(pattern) if p.is_file())


def _holdings(directory: Path, pattern: str, limit: int = 12) -> str:
    """Words what stands in the deepest folder of the pattern that exists."""
    folder = directory
    for part in Path(pattern).parent.parts:
        if not (folder / part).is_dir():
            break
        folder = folder / part
    names = sorted(p.name + ("/" if p.is_dir() else "") for p in folder.iterdir())
    where = folder.relative_to(directory).as_posix()
    shown = ", ".join(names[:limit]) + (f" and {len(names) - limit} more" * (len(names) > limit))
    return f"{'It' if where == '.' else where + '/'} holds: {shown or 'nothing'}."
