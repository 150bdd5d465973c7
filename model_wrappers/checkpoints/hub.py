"""Commit and files of a revision, from the Hugging Face hub or, without a connection, from its local cache."""

from __future__ import annotations

import difflib
import functools
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model_wrappers.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Snapshot", "fetch", "snapshot"]

logger = logging.getLogger(__name__)
SECONDS = 30.0


@dataclass(frozen=True)
class Snapshot:
    """The files of one revision.

    Attributes:
        sha: the commit.
        files: path within the repository -> sha256 of the content, or None for small files that are not in LFS.
        folder: None if the hub answered. Otherwise the snapshot folder of the local cache; ``files`` are then the files that
            were downloaded before, which may not be all files of the revision.
    """

    sha: str
    files: Mapping[str, str | None]
    folder: Path | None = None


@functools.cache
def snapshot(repo: str, revision: str) -> Snapshot:
    """Return the commit and the files of a revision. The hub is asked once per process.

    Raises:
        CheckpointError: there is no such repository or revision, or no access; or there is no connection, and the revision
            is not in the local cache.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    failures: tuple[type[Exception], ...] = (OSError, ValueError, *_unreachable())
    try:
        info = api.model_info(repo, revision=revision, files_metadata=True, timeout=SECONDS)
    except failures as error:
        refused = _refused(error, repo, revision, api.endpoint)
        if refused is not None:
            raise refused from error
        return _from_cache(repo, revision, error)
    files = {s.rfilename: s.lfs.sha256 if s.lfs is not None else None for s in info.siblings or []}
    return Snapshot(sha=str(info.sha), files=files)


def fetch(repo: str, revision: str, name: str) -> Path | None:
    """Return the local path of one file, which is downloaded if necessary; None if the revision has no such file.

    Without a connection, only files in the local cache exist.

    Raises:
        CheckpointError: as `snapshot`; or the download failed.
    """
    from huggingface_hub import HfApi

    known = snapshot(repo, revision)
    if name not in known.files:
        return None
    if known.folder is not None:
        return known.folder / name
    api = HfApi()
    failures: tuple[type[Exception], ...] = (OSError, *_unreachable())  # OSError: also a full disk
    try:
        return Path(api.hf_hub_download(repo, name, revision=revision))
    except failures as error:
        raise CheckpointError(
            f"downloading {name} of {repo!r} at revision {revision!r} from {api.endpoint} failed: {error}; run the "
            "command again"
        ) from error


def _unreachable() -> tuple[type[Exception], ...]:
    """Return the exceptions of a failed connection; the base class of the hub's errors belongs to its HTTP library."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    return (OfflineModeIsEnabled, HfHubHTTPError.__bases__[0], ConnectionError, TimeoutError)


def _refused(error: Exception, repo: str, revision: str, endpoint: str) -> CheckpointError | None:
    """Return a clear error for the hub's refusal; None if the hub gave no answer (no connection, overload, no JSON)."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RevisionNotFoundError

    if isinstance(error, HFValidationError):
        return CheckpointError(f"{repo!r} is neither a folder nor a repository name; {_remedy(repo)}")
    if isinstance(error, GatedRepoError):
        return _no_access(repo, endpoint, "is gated")
    if isinstance(error, RevisionNotFoundError):
        return _no_revision(repo, revision)
    if not isinstance(error, HfHubHTTPError):
        return None
    status = error.response.status_code
    if status == 401 and "invalid credentials" in str(error).lower():
        status = 403
    return _by_status(status, repo, revision, endpoint)


def _by_status(status: int, repo: str, revision: str, endpoint: str) -> CheckpointError | None:
    if status == 403:
        return _no_access(repo, endpoint, "may not be read with this token")
    if status in {401, 404}:  # without a login, the hub answers 401 for repositories that do not exist
        return CheckpointError(f"repository {repo!r} was not found at {endpoint}, or is private; {_remedy(repo)}")
    if status >= 500 or status in {408, 429}:
        return None
    return CheckpointError(f"{endpoint} refused to describe {repo!r} at {revision!r} (HTTP {status}); check both names")


def _remedy(repo: str) -> str:
    return (
        "check the spelling, log in (`hf auth login` or HF_TOKEN) if it is private, or give an existing local folder, "
        f"e.g. ./{Path(repo).name}"
    )


def _no_access(repo: str, endpoint: str, how: str) -> CheckpointError:
    return CheckpointError(
        f"repository {repo!r} {how}; accept its terms at {endpoint}/{repo} and log in with an account that may read it "
        "(`hf auth login` or HF_TOKEN), or give a local folder"
    )


def _no_revision(repo: str, revision: str) -> CheckpointError:
    from huggingface_hub import HfApi

    try:
        refs = HfApi().list_repo_refs(repo)
    except _unreachable():  # includes every HTTP status
        return CheckpointError(f"{repo!r} has no revision {revision!r}; give a branch, a tag or a full commit hash")
    names = [ref.name for ref in [*refs.branches, *refs.tags]]
    closest = difflib.get_close_matches(revision, names, n=5, cutoff=0.0)
    return CheckpointError(
        f"{repo!r} has no revision {revision!r}; the closest of its {len(names)} branches and tags: "
        f"{', '.join(closest)}; give one of them or a full commit hash"
    )


def _from_cache(repo: str, revision: str, why: Exception) -> Snapshot:
    from huggingface_hub import constants

    store = Path(constants.HF_HUB_CACHE) / ("models--" + repo.replace("/", "--"))
    ref = store / "refs" / revision
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
    folder = store / "snapshots" / commit
    reason = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else f"{type(why).__name__}: {why}".split("\n")[0]
    if not re.fullmatch(r"[0-9a-f]{40}", commit) or not folder.is_dir():
        raise CheckpointError(
            f"the hub cannot be asked about {repo!r} ({reason}) and revision {revision!r} is not in the local cache "
            f"{constants.HF_HUB_CACHE}; connect once, e.g. `hf download {repo} --revision {revision}`, or give a local "
            "folder"
        ) from why
    if not constants.is_offline_mode():
        logger.warning("the hub cannot be asked about %s (%s): using what the local cache holds", repo, reason)
    files = {p.relative_to(folder).as_posix(): _blob_sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    return Snapshot(sha=commit, files=files, folder=folder)


def _blob_sha256(path: Path) -> str | None:
    """Return the sha256 in the name of a cached LFS file's blob; None for other files, whose blobs have a git hash."""
    name = path.readlink().name if path.is_symlink() else ""
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else None
