"""From a YAML file and `key=value` words to a run: Hydra composes, pydantic validates."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nequip.config.locate import config_file, shipped_configs
from nequip.config.schema import RunConfig
from nequip.config.sources import Sources, line_of, readable, section_of
from nequip.config.validate import validate
from nequip.errors import ConfigError, did_you_mean

GROUPS = ("data", "model", "train", "trainer", "experiment")


def compose(file: str | Path, words: Sequence[str] = ()) -> RunConfig:
    """The run that a YAML file describes, changed by `key=value` words.

    Any valid key can be set, whether the file mentions it or not. `group=choice` takes a file of the
    groups data, model, train, trainer and experiment, from beside the file or shipped.

    Raises:
        ConfigError: one line for each mistake in the file and in the words.
    """
    file = config_file(Path(file))
    overrides = [_parse(word) for word in words]
    for override in overrides:
        _check(override)
    composed = _compose(file, overrides)
    return validate(_plain(composed, file), _sources(file, overrides, composed.hydra.runtime.choices))


def expand(words: Sequence[str]) -> list[list[str]]:
    """Every combination of values that words such as `model.l_max=1,2` stand for."""
    alternatives = []
    for word in words:
        override = _parse(word)
        values = override.sweep_string_iterator() if override.is_sweep_override() else None
        alternatives.append([word] if values is None else [f"{override.key_or_group}={v}" for v in values])
    return [list(combination) for combination in itertools.product(*alternatives)]


def to_yaml(run: RunConfig) -> str:
    """The whole configuration, defaults included: `compose` of this text gives the same run."""
    return yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _parse(word: str) -> Override:
    parser = OverridesParser.create()
    try:
        return parser.parse_overrides([word])[0]
    except OverrideParseException:
        # Hydra's grammar has no place for `~/my data (1).xyz`: such a value is text.
        key, equals, value = word.partition("=")
        if not equals or not re.fullmatch(r"\+{0,2}[\w./@]+", key):
            raise ConfigError(f"{word!r} is not of the form key=value.") from None
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        return parser.parse_overrides([f'{key}="{quoted}"'])[0]


def _check(override: Override) -> None:
    word, key = override.input_line, str(override.key_or_group)
    if override.is_sweep_override():
        raise ConfigError(
            f"{word}: several values need --multirun; a list is written {key}=[...], "
            "and text with a comma in two kinds of quotes."
        )
    if key.split(".")[0] == "hydra":
        raise ConfigError(f"{word}: Hydra only composes here; results go to output_dir.")
    if _is_choice(override) and not isinstance(override.value(), str):
        raise ConfigError(f"{word}: write {key}=CHOICE or {key}.KEY=VALUE.")


def _compose(file: Path, overrides: Sequence[Override]) -> DictConfig:
    """Hydra's composition, its own node included."""
    shipped = str(shipped_configs()).replace("'", "\\'")
    words = [f"hydra.searchpath=['file://{shipped}']"]
    # The groups first, each appended where the files so far make no choice of it.
    for override in filter(_is_choice, overrides):
        chosen = _hydra(file, words).hydra.runtime.choices
        prefix = "" if override.key_or_group in chosen else "+"
        words.append(prefix + override.input_line.lstrip("+"))
    for override in itertools.filterfalse(_is_choice, overrides):
        deletes = override.type is OverrideType.DEL
        words.append(override.input_line if deletes else "++" + override.input_line.lstrip("+"))
    return _hydra(file, words)


def _is_choice(override: Override) -> bool:
    deletes = override.type is OverrideType.DEL
    return override.key_or_group in GROUPS and not deletes


def _hydra(file: Path, words: list[str]) -> DictConfig:
    try:
        _require_keys(file)
        with initialize_config_dir(str(file.parent), version_base="1.3"), warnings.catch_warnings():
            # Without `_self_` a file's own values come last and win, which is what one expects.
            warnings.filterwarnings("ignore", message=".*Defaults list is missing `_self_`")
            return hydra_compose(file.name, words, return_hydra_config=True)
    except yaml.YAMLError as error:
        raise ConfigError(_yaml_mistake(error, file)) from error
    except MissingConfigException as error:
        raise ConfigError(_missing_choice(error, file)) from error
    except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        reason = error.__cause__ or error
        raise ConfigError(f"{readable(file)}: {str(reason).strip().splitlines()[0]}") from error


def _require_keys(file: Path) -> None:
    with file.open(encoding="utf-8") as stream:  # a stream, so that errors name the file
        root = yaml.compose(stream)
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{readable(file)} holds no keys: a configuration is written as `key: value`.")
    if line := line_of(file, ("hydra",)):
        raise ConfigError(
            f"hydra: Hydra only composes here, so its settings have no effect; results go to output_dir "
            f"[{readable(file)}:{line}]."
        )


def _yaml_mistake(error: yaml.YAMLError, file: Path) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return f"{readable(file)} is not YAML: {str(error).splitlines()[0]}."
    mark = error.problem_mark
    return f"{readable(Path(mark.name))}:{mark.line + 1} is not YAML: {error.problem}."


def _missing_choice(error: MissingConfigException, file: Path) -> str:
    group, _, choice = str(error.missing_cfg_file).rpartition("/")
    options = [str(option) for option in error.options or ()]
    there_are = f"; there are {', '.join(options)}" if options else ""
    own = f"; to give a file write data.file={choice}" if group == "data" else ""
    hint = did_you_mean(choice, options) if group in GROUPS else did_you_mean(group, GROUPS)
    return f"{group} has no choice {choice!r}{hint}{there_are}{own} [{readable(file)}]."


def _plain(composed: DictConfig, file: Path) -> dict[str, Any]:
    try:
        tree = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
        return OmegaConf.to_container(tree, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {str(error).splitlines()[0]} [{readable(file)}]") from error


def _sources(file: Path, overrides: Sequence[Override], choices: DictConfig) -> Sources:
    words = tuple(tuple(str(o.key_or_group).split(".")) for o in overrides if not _is_choice(o))
    chosen = [
        (group, folder / group / f"{choice}.yaml")
        for group, choice in choices.items()
        for folder in (file.parent, shipped_configs())
        if group in GROUPS
    ]
    files = [(path, section_of(path, group)) for group, path in chosen if path.is_file()]
    return Sources(words, ((file, ()), *files))
