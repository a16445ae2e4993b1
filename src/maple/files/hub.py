"""The Hub: data files and models at a commit that is resolved once and kept in the lock.

    name, revision --lock or network--> commit --> listing --> files in the Hub's cache

Dataset scripts and pickled weights are never downloaded. The listing of a commit is kept beside
the cache, so that a fetched study knows offline which files there are and which are missing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from maple.errors import SourceError
from maple.files import environment
from maple.files.explain import NoSuchRevisionError, explained, not_cached
from maple.files.lock import Kind, Lock, is_commit

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PARQUET_BRANCH = "refs/convert/parquet"
"""Where the Hub keeps its own Parquet conversion: ``<config>/<split>/NNNN.parquet``."""

_TIMEOUT_SECONDS = 10.0
_DATA_FILE = re.compile(r"\.(parquet|jsonl?|csv|tsv|txt)(\.(gz|bz2|xz|zst))?$|\.tar\.\w+$|\.zip$")
_MODEL_FILES = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken")
_CACHED_PATH = re.compile(r"/(?:datasets|models)--([^/]+)/snapshots/([0-9a-f]{40})/")


@dataclass(frozen=True, kw_only=True)
class Drift:
    """A lock entry that the Hub has moved on from; what is locked is still what is used."""

    kind: Kind
    name: str
    """Repository, with ``@tag`` where the lock has one."""
    locked: str
    current: str | None
    """The commit it would resolve to now; None where the repository or tag is gone."""

    @property
    def message(self) -> str:
        """One sentence for the user."""
        now = f"is now at {self.current[:12]}" if self.current else "is gone from the Hub"
        return (
            f"{self.name} {now}; maple.lock keeps {self.locked[:12]}. Delete its entry to move on."
        )


class Hub:
    """A client of the Hub that follows a lock."""

    def __init__(self, lock: Lock | None = None) -> None:
        """Makes a client; nothing is contacted before a file is asked for.

        Args:
            lock: the study's lock; None pins for the life of this object only.
        """
        self.lock = lock or Lock()

    def resolve(self, kind: Kind, repo: str, revision: str | None = None) -> str:
        """Returns the commit to use, resolving and locking it at the first call.

        Args:
            kind: ``datasets`` or ``models``.
            repo: ``owner/name``.
            revision: branch, tag or commit; None is the default branch.

        Raises:
            SourceError: nothing is locked and the Hub (or, offline, the cache) has no answer.
        """
        if revision is not None and is_commit(revision):
            return revision
        name = f"{repo}@{revision}" if revision else repo
        locked = self.lock.commit(kind, name)
        if locked is not None:
            return locked
        if environment.is_offline():
            commit = _cached_reference(kind, repo, revision or "main")
        else:
            commit = _current(kind, repo, revision)
        return self.lock.record(kind, name, commit)

    def resolve_model(self, name: str, revision: str | None = None) -> str:
        """Returns the commit of a model to use; see ``resolve``."""
        return self.resolve("models", name, revision)

    def data_files(
        self, repo: str, patterns: Sequence[str], revision: str | None = None
    ) -> list[Path]:
        """Fetches the data files of a repository that the first fitting pattern matches.

        Where none fits, the Hub's Parquet conversion of the repository is searched too.

        Args:
            repo: ``owner/name``.
            patterns: fnmatch patterns over paths in the repository, best first; ``*`` also
                matches ``/``. Only data files count, never scripts.
            revision: branch, tag or commit; None is the default branch.

        Returns:
            Paths in the cache, sorted by name.

        Raises:
            SourceError: the files cannot be had, or the repository holds none of them.
        """
        commit = self.resolve("datasets", repo, revision)
        held = _listing("datasets", repo, commit)
        names = _matching(held, patterns)
        if not names:
            commit, names = self._converted(repo, patterns, held)
        return _download("datasets", repo, commit, names)

    def snapshot(self, name: str, revision: str | None = None) -> Path:
        """Fetches a model: its safetensors, configuration and tokenizer, never a pickle.

        Returns:
            The folder in the cache that ``from_pretrained`` loads.

        Raises:
            SourceError: the files cannot be had, or the model has no safetensors.
        """
        commit = self.resolve_model(name, revision)
        held = _listing("models", name, commit)
        # consolidated.safetensors repeats Mistral's weights in the vendor's own layout.
        chosen = [
            n
            for n in held
            if "/" not in n
            and not n.startswith("consolidated")
            and any(fnmatchcase(n, p) for p in _MODEL_FILES)
        ]
        if not any(n.endswith(".safetensors") for n in chosen):
            raise SourceError(
                f"model {name} at {commit[:12]} has no safetensors, and pickled weights are not "
                f"loaded. Name a revision that has them. It holds: {_shortened(held)}."
            )
        return _download("models", name, commit, chosen)[0].parent

    def drift(self) -> list[Drift]:
        """Compares every lock entry with the Hub; empty offline, where nothing can be compared.

        Raises:
            SourceError: the Hub cannot be reached.
        """
        if environment.is_offline():
            return []
        drifted = []
        for kind, name, locked in self.lock.entries():
            repo, _, revision = name.partition("@")
            current = _current_or_gone(kind, repo, revision or None)
            if current != locked:
                drifted.append(Drift(kind=kind, name=name, locked=locked, current=current))
        return drifted

    def _converted(
        self, repo: str, patterns: Sequence[str], held: Sequence[str]
    ) -> tuple[str, list[str]]:
        try:
            commit = self.resolve("datasets", repo, PARQUET_BRANCH)
            converted = _listing("datasets", repo, commit)
        except NoSuchRevisionError:
            commit, converted = "", []
        names = _matching(converted, patterns)
        if not names:
            also = f" Its Parquet branch holds: {_shortened(converted)}." if converted else ""
            raise SourceError(
                f"data set {repo} has no data file like {' or '.join(patterns)}. "
                f"It holds: {_shortened(held)}.{also} Dataset scripts are not run; name a "
                "directory of release files with --data-dir."
            )
        return commit, names


def hub_origin(path: Path) -> str | None:
    """``hub:<repo>@<commit>`` of a file in the Hub's cache; None for any other file."""
    found = _CACHED_PATH.search(path.as_posix())
    return f"hub:{found[1].replace('--', '/')}@{found[2]}" if found else None


def _api() -> HfApi:
    from huggingface_hub import HfApi

    # False, not None: None would let the library look for a token by its own, earlier, settings.
    return HfApi(endpoint=environment.endpoint(), token=environment.token() or False)


def _current(kind: Kind, repo: str, revision: str | None) -> str:
    with explained(kind, repo, revision):
        info = _api().repo_info(
            repo, repo_type=_type(kind), revision=revision, timeout=_TIMEOUT_SECONDS
        )
    if not info.sha or not is_commit(info.sha):
        raise SourceError(
            f"{environment.shown_endpoint()} named no commit for {repo}: it is not a Hub. "
            "Check HF_ENDPOINT and the proxy."
        )
    return info.sha


def _current_or_gone(kind: Kind, repo: str, revision: str | None) -> str | None:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return _current(kind, repo, revision)
    except NoSuchRevisionError:
        return None
    except SourceError as error:
        cause = error.__cause__
        if isinstance(cause, RepositoryNotFoundError) and not isinstance(cause, GatedRepoError):
            return None
        raise


def _cached_reference(kind: Kind, repo: str, revision: str) -> str:
    reference = _cache_folder(kind, repo) / "refs" / revision
    if not reference.is_file():
        raise not_cached(kind, repo, f"revision {revision!r} is")
    return reference.read_text(encoding="utf-8").strip()


def _listing(kind: Kind, repo: str, commit: str) -> list[str]:
    """Every file of a commit, sorted; kept on disk, for a commit never changes."""
    kept = environment.home() / "maple" / "listings" / _cache_folder(kind, repo).name / commit
    if kept.is_file():
        return [str(name) for name in json.loads(kept.read_text(encoding="utf-8"))]
    if environment.is_offline():
        return _cached_listing(kind, repo, commit)
    with explained(kind, repo, commit):
        names = sorted(_api().list_repo_files(repo, revision=commit, repo_type=_type(kind)))
        kept.parent.mkdir(parents=True, exist_ok=True)
        temporary = kept.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")
        temporary.replace(kept)
    return names


def _cached_listing(kind: Kind, repo: str, commit: str) -> list[str]:
    """The files that another tool left in the cache: all that is known offline."""
    folder = _cache_folder(kind, repo) / "snapshots" / commit
    if not folder.is_dir():
        raise not_cached(kind, repo, f"commit {commit[:12]} is")
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _download(kind: Kind, repo: str, commit: str, names: Sequence[str]) -> list[Path]:
    folder = _cache_folder(kind, repo) / "snapshots" / commit
    missing = [n for n in names if not (folder / n).is_file()]
    if missing and environment.is_offline():
        raise not_cached(kind, repo, f"{_shortened(missing)} ({len(missing)} of {len(names)})")
    if missing:
        # Asked once and without retries: hf_hub_download alone retries for half a minute.
        _current(kind, repo, commit)
        api = _api()
        with explained(kind, repo, commit):
            for name in missing:
                got = api.hf_hub_download(
                    repo,
                    name,
                    repo_type=_type(kind),
                    revision=commit,
                    cache_dir=environment.cache(),
                )
                if commit not in Path(got).parts:
                    raise SourceError(
                        f"{repo}: the Hub served {name} from another commit than {commit} that "
                        "was asked for. Try again; if it persists, check HF_ENDPOINT."
                    )
    return [folder / n for n in names]


def _matching(held: Sequence[str], patterns: Sequence[str]) -> list[str]:
    data = [n for n in held if _DATA_FILE.search(n)]
    for pattern in patterns:
        names = [n for n in data if fnmatchcase(n, pattern)]
        if names:
            return names
    return []


def _shortened(names: Sequence[str], limit: int = 20) -> str:
    rest = f", and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) or "nothing") + rest


def _cache_folder(kind: Kind, repo: str) -> Path:
    return environment.cache() / f"{kind}--{repo.replace('/', '--')}"


def _type(kind: Kind) -> str:
    return kind.removesuffix("s")
