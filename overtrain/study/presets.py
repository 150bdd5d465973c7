"""The study files that are installed with the package, by name."""

from __future__ import annotations

from pathlib import Path

from model_wrappers.errors import ConfigError, close_match

__all__ = ["find_preset", "preset_names"]


def find_preset(name: str | Path) -> Path:
    """Return the file called ``name``: a path, or a preset of the installation, with or without ``.yaml``.

    Raises:
        ConfigError: there is neither; the message names the presets.
    """
    given = Path(name).expanduser()
    places = [given, *(folder / part for folder in _folders() for part in (Path(name), Path(f"{name}.yaml")))]
    for place in places:
        if _is_file(place):
            return place.resolve()
    known = preset_names()
    raise ConfigError(
        f"{str(name)!r}: no such file and no such preset{close_match(str(name).removesuffix('.yaml'), known)} (presets: "
        f"{', '.join(known)}); give a YAML file or a preset"
    )


def preset_names() -> list[str]:
    """Return the presets of this installation, e.g. ``micro/demo``.

    Files in a folder ``_parts`` are only included by others; ``alpaca_eval`` holds files of that program.
    """
    found = {
        str(file.relative_to(folder).with_suffix(""))
        for folder in _folders()
        for file in folder.rglob("*.yaml")
        if {"_parts", "alpaca_eval"}.isdisjoint(file.relative_to(folder).parts)
    }
    return sorted(found)


def _folders() -> list[Path]:
    """Return the folder of the presets: inside the installed package, or beside it in a checkout of the repository."""
    package = Path(__file__).resolve().parents[1]
    places = [package / "configs"]
    if (package.parent / "pyproject.toml").is_file():
        places.append(package.parent / "configs")
    return [place for place in places if place.is_dir()]


def _is_file(place: Path) -> bool:
    try:
        return place.is_file()
    except OSError:  # a name that is too long
        return False
