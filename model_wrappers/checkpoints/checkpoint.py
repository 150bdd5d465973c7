"""A checkpoint: its place, its revision, the tokens that it has seen, and a fingerprint of its weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_wrappers.cache import cache_root
from model_wrappers.checkpoints.families import family_of, tokens_in_name
from model_wrappers.checkpoints.fingerprints import sha256_of
from model_wrappers.checkpoints.hub import fetch, snapshot
from model_wrappers.coerce import coerce
from model_wrappers.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Checkpoint"]

# In the order in which transformers looks for weights: one file, then an index of shards; safetensors before pickles.
_WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
_NO_IDENTITY = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"})
_OTHER_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".h5", ".msgpack", ".gguf", ".onnx", ".npz")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One set of weights: a repository of the hub at a revision, or a local folder.

    Attributes:
        repo: a hub repository (``allenai/OLMo-1B-hf``) or a local folder; an existing folder takes precedence.
        revision: branch, tag or commit; a number (as lm-eval reads ``revision=1000``) becomes text. Folders have none.
        subfolder: folder inside the repository with the config and the weights.
        tokens: tokens seen in pre-training, > 0; needed if no name or table gives them.
        overrides: (key, value) pairs that replace values of ``config.json``, for training and evaluation.

    >>> Checkpoint(repo="EleutherAI/pythia-160m", revision="step1000").tokens_seen()
    2097152000

    Raises:
        ConfigError: a value has the wrong type, or tokens <= 0.
    """

    repo: str | Path
    revision: str = "main"
    subfolder: str = ""
    tokens: int | None = None
    overrides: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.repo, (str, Path)) or not str(self.repo).strip():
            raise ConfigError(f"pretrained={self.repo!r}: must be a hub repository (owner/name) or a local folder")
        revision = "main" if self.revision is None else coerce("revision", self.revision, str)
        if not revision.strip():
            raise ConfigError("revision='': must be a branch, a tag or a commit; leave it out for 'main'")
        subfolder = "" if self.subfolder is None else coerce("subfolder", self.subfolder, str).strip("/")
        if ".." in Path(subfolder).parts:
            raise ConfigError(f"subfolder={subfolder!r}: must lie within the repository; give a path without '..'")
        tokens = coerce("tokens", self.tokens, int | None)
        if tokens is not None and tokens <= 0:
            raise ConfigError(f"tokens={tokens}: must be a positive number of tokens; leave it out where it is unknown")
        for name, value in (("revision", revision), ("subfolder", subfolder), ("tokens", tokens)):
            object.__setattr__(self, name, value)

    @property
    def is_local(self) -> bool:
        """Whether the checkpoint is a local folder.

        Raises:
            CheckpointError: ``repo`` is a path (a `Path`, or text that starts with ``./ ../ / ~``), but not a folder.
        """
        path = self._root()
        try:
            if path.is_dir():
                return True
        except OSError as error:
            raise CheckpointError(
                f"pretrained={str(self.repo)[:80]!r} cannot be a folder ({error.strerror}); give the folder that holds "
                "config.json and the weights, or a hub repository as owner/name"
            ) from error
        if isinstance(self.repo, Path) or self.repo in {".", ".."} or self.repo.startswith(("./", "../", "/", "~")):
            what = "is a file, not a folder" if path.exists() else "does not exist"
            raise CheckpointError(
                f"pretrained={str(self.repo)!r} {what}; give the folder that holds config.json and the weights, or a "
                "hub repository as owner/name"
            )
        return False

    def location(self) -> str:
        """Return the first argument of ``from_pretrained``: the repository's name or the folder."""
        return str(self._root()) if self.is_local else str(self.repo)

    def load_kwargs(self) -> dict[str, Any]:
        """Return the keyword arguments that go with `location` in ``from_pretrained``."""
        if self.is_local:
            return {"subfolder": self.subfolder} if self.subfolder else {}
        return {"revision": self.revision, "subfolder": self.subfolder}

    def config(self) -> dict[str, Any]:
        """Return the contents of ``config.json``, with the overrides.

        Raises:
            CheckpointError: the file is missing or is not JSON.
        """
        path = self._file("config.json")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(
                f"{path} is no configuration ({error}); download or copy the checkpoint again"
            ) from error
        if not isinstance(content, dict):
            raise CheckpointError(f"{path} is no configuration (no mapping); download or copy the checkpoint again")
        return content | dict(self.overrides)

    def identity(self) -> dict[str, Any]:
        """Return what determines the loaded model, as JSON data: weights, configuration, and the repository's own code.

        Two parts of the configuration are left out: its origin, and the dtype of the weights, which every result names
        separately.

        Raises:
            CheckpointError: as `weight_hashes` and `config`.
        """
        config = {key: value for key, value in self.config().items() if key not in _NO_IDENTITY}
        found: dict[str, Any] = {"weights": self.fingerprint(), "config": config}
        if "auto_map" in config:
            code = [name for name in self._listing() if name.endswith(".py")]
            found["code"] = {name: hashlib.sha256(self._file(name).read_bytes()).hexdigest() for name in code}
        return found

    def tokens_seen(self) -> int | None:
        """Return the tokens seen in pre-training, or None if they are unknown.

        ``tokens`` comes first. For a folder, ``overtrain.json`` beside the weights (``{"tokens": int}``) comes next, then the
        folder's name. For the hub, the revision's name (`tokens_in_name`) comes next, then the family's table (`families`),
        which cites its source.

        Raises:
            CheckpointError: ``overtrain.json`` exists but does not contain ``{"tokens": int}``.
        """
        if self.tokens is not None:
            return self.tokens
        if self.is_local:
            beside = self.side_file("overtrain.json")
            return _tokens_of(beside) if beside is not None else tokens_in_name(self._folder().resolve().name)
        stated = tokens_in_name(self.revision)
        family = family_of(str(self.repo))
        if stated is None and family is not None and family.tokens is not None:
            return family.tokens(self.revision)
        return stated

    def sha(self) -> str | None:
        """Return the commit of the revision; None for a local folder.

        Raises:
            CheckpointError: the repository or the revision cannot be found.
        """
        return None if self.is_local else snapshot(str(self.repo), self.revision).sha

    def weight_hashes(self) -> dict[str, str]:
        """Return file name -> sha256 of the weight files that transformers loads, safetensors before ``.bin``.

        For the hub, the hashes are the LFS hashes that the hub lists, so no weights are downloaded. Without a connection, they
        are the names of the local cache's blobs. Local files are hashed once; the hash is stored with path, size and
        modification time in ``fingerprints.json`` under `cache_root`.

        Raises:
            CheckpointError: there is no such repository, revision or folder, no weight file, or a shard is missing.
        """
        listed = self._listing()
        return {name: listed[name] or sha256_of(self._file(name), self._memory()) for name in self._weight_names()}

    def weight_paths(self) -> list[Path]:
        """Return the weight files on the local disk; missing files are downloaded.

        Raises:
            CheckpointError: as `weight_hashes`, or the download failed.
        """
        return [self._file(name) for name in self._weight_names()]

    def fingerprint(self) -> str:
        """Return a sha256 over the hashes of the weight files. It is equal for equal files.

        Repository, revision and file names do not matter. If equal weights are cut into other shards, or saved in another
        format, their fingerprint differs.

        Raises:
            CheckpointError: as `weight_hashes`.
        """
        hashes = sorted(self.weight_hashes().values())
        return hashlib.sha256(json.dumps(hashes, separators=(",", ":")).encode()).hexdigest()

    def verify(self) -> None:
        """Check that the checkpoint exists and can be loaded safely. Nothing is loaded.

        Raises:
            CheckpointError: there is no such repository, revision (the message names the closest ones), folder or subfolder;
                there is no access, no config.json, or no weight file that is safe to load; or the hub cannot be reached and
                the local cache does not have the checkpoint.
        """
        listed = self._listing()
        if "config.json" not in listed:
            raise CheckpointError(
                f"{self.place()} has no config.json (there: {_some(listed)}); give the folder or the subfolder= that "
                "transformers' save_pretrained wrote"
            )
        for name in self._weight_names():
            if self.is_local and _is_pointer(self._file(name)):
                raise CheckpointError(
                    f"{self._file(name)} is a Git LFS pointer, not the weights; run `git lfs pull` in {self._folder()}"
                )

    def side_file(self, name: str) -> Path | None:
        """Return the local path of a small file beside the weights; None if there is no such file.

        A file on the hub is downloaded.

        Raises:
            CheckpointError: the repository or the revision cannot be found, or the download failed.
        """
        if self.is_local:
            path = self._folder() / name
            return path if path.is_file() else None
        return fetch(str(self.repo), self.revision, f"{self.subfolder}/{name}" if self.subfolder else name)

    def describe(self) -> dict[str, Any]:
        """Return JSON data for the results: repo, revision, sha, subfolder, tokens, fingerprint.

        Raises:
            CheckpointError: as `weight_hashes`.
        """
        return {
            "repo": str(self.repo),
            "revision": None if self.is_local else self.revision,
            "sha": self.sha(),
            "subfolder": self.subfolder,
            "tokens": self.tokens_seen(),
            "fingerprint": self.fingerprint(),
        }

    def _root(self) -> Path:
        try:
            return Path(self.repo).expanduser()
        except RuntimeError:  # ~someone, who has no home here
            return Path(self.repo)

    def _folder(self) -> Path:
        return self._root() / self.subfolder

    def _file(self, name: str) -> Path:
        found = self.side_file(name)
        if found is None:
            raise CheckpointError(f"{self.place()} has no file {name}; download or copy the checkpoint again")
        return found

    def _memory(self) -> Path:
        return cache_root() / "fingerprints.json"

    def place(self) -> str:
        """Return where the checkpoint lies, for messages."""
        if self.is_local:
            return str(self._folder())
        return f"{self.repo!r} at revision {self.revision!r}" + (f", {self.subfolder}/" if self.subfolder else "")

    def _listing(self) -> dict[str, str | None]:
        """Return the names of the files in the checkpoint's folder, with their sha256 if the hub lists it."""
        if self.is_local:
            listed: dict[str, str | None] = {}
            if self._folder().is_dir():
                listed = {p.name: None for p in sorted(self._folder().iterdir()) if p.is_file()}
            there = self._folder().is_dir()
        else:
            prefix = f"{self.subfolder}/" if self.subfolder else ""
            files = snapshot(str(self.repo), self.revision).files
            inside = {name.removeprefix(prefix): sha for name, sha in files.items() if name.startswith(prefix)}
            listed = {name: sha for name, sha in inside.items() if "/" not in name}
            there = bool(inside) or not prefix
        if not there:
            raise CheckpointError(
                f"subfolder={self.subfolder!r}: there is no such folder in {self.repo}; give one that exists or leave "
                "it out"
            )
        return listed

    def _weight_names(self) -> list[str]:
        listed = self._listing()
        for single, index in _WEIGHTS:
            if single in listed:
                return [single]
            if index in listed:
                shards = _shards(self._file(index))
                missing = [name for name in shards if name not in listed]
                if missing:
                    raise CheckpointError(
                        f"{self.place()} lacks {len(missing)} of the {len(shards)} weight files that {index} names: "
                        f"{_some(missing)}; {self._completion()}"
                    )
                return shards
        raise self._no_weights(listed)

    def _completion(self) -> str:
        if self.is_local or snapshot(str(self.repo), self.revision).folder is None:
            return "download or copy the checkpoint again"
        return (
            "the hub cannot be asked and the local cache has only part of it: connect once, "
            f"`hf download {self.repo} --revision {self.revision}`"
        )

    def _no_weights(self, listed: Iterable[str]) -> CheckpointError:
        others = [name for name in listed if name.endswith(_OTHER_WEIGHTS)]
        if any(name.startswith("adapter_model.") for name in others):
            remedy = "an adapter alone is no checkpoint: merge it into its base model and save that"
        elif not self.is_local and snapshot(str(self.repo), self.revision).folder is not None:
            remedy = self._completion()
        else:
            remedy = (
                "load the weights once where you trust them and write model.safetensors with transformers' "
                "save_pretrained, or choose a revision that has it"
            )
        return CheckpointError(
            f"{self.place()} has no model.safetensors, no pytorch_model.bin and no index of shards of either (weights "
            f"there: {_some(others)}); {remedy}"
        )


def _tokens_of(path: Path) -> int:
    try:
        tokens = json.loads(path.read_text(encoding="utf-8"))["tokens"]
    except (OSError, ValueError, KeyError, TypeError):
        tokens = None
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 0:
        raise CheckpointError(f'{path} must be {{"tokens": N}} with N an integer of 0 or more; correct or remove it')
    return tokens


def _shards(index: Path) -> list[str]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        names = set()
    if not names or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{index} is not an index of weight files; download or copy the checkpoint again")
    return sorted(names)


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(34) == b"version https://git-lfs.github.com"


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(names[:5]) or "none") + more
