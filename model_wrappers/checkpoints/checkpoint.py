"""Where weights are, which revision of them, how many tokens they have seen, and which weights they really are."""

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
from model_wrappers.errors import CheckpointError, ConfigError, OvertrainError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Checkpoint", "load_error"]

# In the order in which transformers looks for them: one file, then an index of shards; safetensors before pickles.
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
        repo: a hub repository (``allenai/OLMo-1B-hf``) or a local folder; an existing folder wins.
        revision: branch, tag or commit; a number (as lm-eval reads ``revision=1000``) becomes text. A folder has none.
        subfolder: folder within the repository that holds config and weights.
        tokens: tokens seen in pre-training, > 0, where the name does not say.
        overrides: (key, value) of ``config.json`` that hold in place of what stands there, for training and evaluation.

    >>> Checkpoint(repo="EleutherAI/pythia-160m", revision="step1000").tokens_seen()
    2097152000

    Raises:
        ConfigError: a value of the wrong type, or tokens <= 0.
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
        """Return whether the weights are a local folder.

        Raises:
            CheckpointError: written as a path (a `Path`, or text that starts with ``./ ../ / ~``), but no folder.
        """
        path = self._root()
        if path.is_dir():
            return True
        if isinstance(self.repo, Path) or self.repo in {".", ".."} or self.repo.startswith(("./", "../", "/", "~")):
            what = "is a file, not a folder" if path.exists() else "does not exist"
            raise CheckpointError(
                f"pretrained={str(self.repo)!r} {what}; give the folder that holds config.json and the weights, or a "
                "hub repository as owner/name"
            )
        return False

    def location(self) -> str:
        """Return what to give ``from_pretrained`` as its first argument: the repository's name or the folder."""
        return str(self._root()) if self.is_local else str(self.repo)

    def load_kwargs(self) -> dict[str, Any]:
        """Return the keyword arguments that go with `location` in ``from_pretrained``."""
        if self.is_local:
            return {"subfolder": self.subfolder} if self.subfolder else {}
        return {"revision": self.revision, "subfolder": self.subfolder}

    def config(self) -> dict[str, Any]:
        """Return what ``config.json`` says, with the overrides in their places.

        Raises:
            CheckpointError: it is not there or not JSON.
        """
        path = self._file("config.json")
        try:
            content = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise CheckpointError(
                f"{path} is no configuration ({error}); download or copy the checkpoint again"
            ) from error
        return content | dict(self.overrides)

    def identity(self) -> dict[str, Any]:
        """Return what determines the model that is loaded, as JSON data: weights, configuration, code that comes along.

        What a configuration says of where it came from and of the dtype that weights are loaded in is left out: a result
        names its dtype itself.

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
        """Return the tokens seen in pre-training, or None where nothing says so.

        In this order: ``tokens``; for a folder, ``overtrain.json`` beside the weights (``{"tokens": int}``) and the
        folder's name; for the hub, the revision's name (`tokens_in_name`) and the family's table (`families`), which
        cites where it comes from.

        Raises:
            CheckpointError: ``overtrain.json`` is there but does not say ``{"tokens": int}``.
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
        """Return the commit that the revision is, None for a local folder.

        Raises:
            CheckpointError: the repository or the revision cannot be found.
        """
        return None if self.is_local else snapshot(str(self.repo), self.revision).sha

    def weight_hashes(self) -> dict[str, str]:
        """Return file name -> sha256 of the weight files that transformers loads, safetensors before ``.bin``.

        For the hub these are the LFS hashes that it lists, and no weight is downloaded; without a connection, those
        that name the local cache's blobs. Local files are hashed once and remembered by path, size and time of change
        in ``fingerprints.json`` under `cache_root`.

        Raises:
            CheckpointError: no such repository, revision or folder; no weight file; a shard is missing.
        """
        listed = self._listing()
        return {name: listed[name] or sha256_of(self._file(name), self._memory()) for name in self._weight_names()}

    def weight_paths(self) -> list[Path]:
        """Return the weight files on the local disk, downloaded where they are not there yet.

        Raises:
            CheckpointError: as `weight_hashes`, or the download failed.
        """
        return [self._file(name) for name in self._weight_names()]

    def fingerprint(self) -> str:
        """Return a sha256 over the weight files' hashes, equal for equal files.

        Repository, revision and file names do not count. The same weights cut into other shards, or saved in another
        format, have another fingerprint.

        Raises:
            CheckpointError: as `weight_hashes`.
        """
        hashes = sorted(self.weight_hashes().values())
        return hashlib.sha256(json.dumps(hashes, separators=(",", ":")).encode()).hexdigest()

    def verify(self) -> None:
        """Check that the checkpoint is there and can be loaded safely, before anything is loaded.

        Raises:
            CheckpointError: no such repository, revision (with the closest that exist), folder or subfolder; no access;
                no config.json; no weight file that is safe to load; the hub cannot be reached and the cache lacks it.
        """
        listed = self._listing()
        if "config.json" not in listed:
            raise CheckpointError(
                f"{self._place()} has no config.json (there: {_some(listed)}); give the folder or the subfolder= that "
                "transformers' save_pretrained wrote"
            )
        for name in self._weight_names():
            if self.is_local and _is_pointer(self._file(name)):
                raise CheckpointError(
                    f"{self._file(name)} is a Git LFS pointer, not the weights; run `git lfs pull` in {self._folder()}"
                )

    def side_file(self, name: str) -> Path | None:
        """Return the local path of a small file beside the weights, downloaded if need be, or None if there is none.

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
            raise CheckpointError(f"{self._place()} has no file {name}; download or copy the checkpoint again")
        return found

    def _memory(self) -> Path:
        return cache_root() / "fingerprints.json"

    def _place(self) -> str:
        if self.is_local:
            return str(self._folder())
        return f"{self.repo!r} at revision {self.revision!r}" + (f", {self.subfolder}/" if self.subfolder else "")

    def _listing(self) -> dict[str, str | None]:
        """Return the names of the files beside config and weights, with their sha256 where the hub states it."""
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
                        f"{self._place()} lacks {len(missing)} of the {len(shards)} weight files that {index} names: "
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
            f"{self._place()} has no model.safetensors, no pytorch_model.bin and no index of shards of either (weights "
            f"there: {_some(others)}); {remedy}"
        )


def load_error(error: Exception, checkpoint: Checkpoint) -> OvertrainError | None:
    """Return what an exception of ``from_pretrained`` means to a user, or None where its own message will do.

    ``.bin`` files are read with ``weights_only=True``, so a pickle that holds anything but tensors is refused before
    any of it runs; torch's message then recommends to allow it, which this one does not.
    """
    from safetensors import SafetensorError

    place = checkpoint._place()
    if "Weights only load failed" in str(error):
        reason = next((line for line in str(error).splitlines() if "Unsupported" in line or "unsupported" in line), "")
        return CheckpointError(
            f"the .bin weights of {place} were refused, nothing in them was run: they are damaged or hold more than "
            f"tensors{f' ({reason.strip()})' if reason else ''}; use a revision with safetensors, or convert them "
            "where you trust them"
        )
    if isinstance(error, TypeError):
        unknown = next(
            (key for key, _ in checkpoint.overrides if f"unexpected keyword argument {key!r}" in str(error)), None
        )
        if unknown is not None:
            return ConfigError(
                f"{unknown}={dict(checkpoint.overrides)[unknown]!r}: stands in config.json, but transformers takes it under "
                "another name there and not as an argument; change config.json in a copy of the checkpoint"
            )
    if isinstance(error, (SafetensorError, EOFError)):
        return CheckpointError(f"the weights of {place} are damaged ({error}); download or copy them again")
    return None


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
