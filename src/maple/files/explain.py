"""Turns what ``huggingface_hub`` raises into errors that say what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from maple.errors import SourceError
from maple.files import environment
from maple.files.lock import Kind, is_commit

ELSEWHERE = (
    "Run `maple fetch STUDY` while online, or name a directory of upstream release files with "
    "--data-dir"
)


class NoSuchRevisionError(SourceError):
    """The repository is there, and the branch, tag or commit is not."""


@contextmanager
def explained(kind: Kind, repo: str, revision: str | None) -> Iterator[None]:
    """Runs calls to the Hub about one repository, wording whatever goes wrong.

    Raises:
        NoSuchRevisionError: the repository has no such revision.
        SourceError: the network, the gate, the name, the token or the disk is in the way.
    """
    from huggingface_hub import errors

    what = f"{kind.removesuffix('s')} {repo}"
    # The transport errors of httpx (httpx2 from huggingface_hub 2 on) share this base class.
    network_error = cast("type[Exception]", errors.HfHubHTTPError.__bases__[0])
    try:
        yield
    except errors.GatedRepoError as error:
        raise SourceError(_gated(kind, repo)) from error
    except errors.RevisionNotFoundError as error:
        raise NoSuchRevisionError(_no_revision(what, revision)) from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(
            f"the Hub ({environment.shown_endpoint()}) has no {what}, or it is private. Check the "
            "name: it may have moved. For a private one, `hf auth login` or set HF_TOKEN."
        ) from error
    except errors.HFValidationError as error:
        raise SourceError(
            f"{repo!r} is not the name of a Hub repository (owner/name), nor a directory here."
        ) from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise SourceError(_unreachable(what, error.__cause__ or error)) from error
    except errors.HfHubHTTPError as error:
        raise SourceError(_refused(what, error.response.status_code)) from error
    except network_error as error:
        raise SourceError(_unreachable(what, error)) from error
    except OSError as error:
        raise SourceError(_not_kept(what, error)) from error


def not_cached(kind: Kind, repo: str, missing: str) -> SourceError:
    """Words the error for bytes that the cache lacks while the network is forbidden."""
    return SourceError(
        f"{kind.removesuffix('s')} {repo}: {missing} not in the cache {environment.cache()}, and "
        f"HF_HUB_OFFLINE is set. {ELSEWHERE}."
    )


def _gated(kind: Kind, repo: str) -> str:
    page = f"{environment.shown_endpoint()}/{'datasets/' if kind == 'datasets' else ''}{repo}"
    if environment.token():
        return (
            f"{repo} is gated and your token has no access to it: accept the licence at {page} "
            "with the account of that token, then try again."
        )
    return (
        f"{repo} is gated: accept the licence at {page}, make a read token at "
        f"{environment.shown_endpoint()}/settings/tokens, then `hf auth login` or set HF_TOKEN."
    )


def _no_revision(what: str, revision: str | None) -> str:
    if revision is not None and is_commit(revision):
        return (
            f"{what} is pinned at commit {revision}, which the Hub no longer has. To move to the "
            "current one, delete its entry from maple.lock (or the revision from the study): "
            "results before and after will not share an identity."
        )
    return f"{what} has no revision {revision!r} on the Hub. Check the branch or tag."


def _refused(what: str, status: int) -> str:
    advice = {
        401: "The token was refused: `hf auth login` again, or set HF_TOKEN to a valid one.",
        403: "The token has no right to it: check its scopes, or use another.",
        429: "Too many requests: wait some minutes; a token raises the limit.",
    }.get(status, f"Try again later. {ELSEWHERE}.")
    return f"the Hub ({environment.shown_endpoint()}) answered {status} for {what}. {advice}"


def _not_kept(what: str, error: OSError) -> str:
    if error.errno is None:
        return f"the download of {what} failed ({error}). Try again."
    return (
        f"cannot keep {what} in {environment.cache()}: {error.strerror}. Free space there, or name "
        "another folder with HF_HOME."
    )


def _unreachable(what: str, error: BaseException) -> str:
    return (
        f"cannot reach the Hub at {environment.shown_endpoint()} for {what} "
        f"({type(error).__name__}). {ELSEWHERE}; with HF_HUB_OFFLINE=1 only the cache is used."
    )
