from __future__ import annotations

from pathlib import Path

import pytest

from nequip.config.locate import config_file, named_config, shipped_configs
from nequip.errors import ConfigError


@pytest.mark.parametrize("name", ["ethanol", "experiment/ethanol", "ethanol.yaml"])
def test_an_experiment_is_found_with_and_without_its_folder(name: str):
    assert named_config(name) == shipped_configs() / "experiment" / "ethanol.yaml"


def test_a_name_in_a_folder_of_ones_own(tmp_path: Path):
    (tmp_path / "mine.yaml").touch()
    assert named_config("mine", tmp_path) == tmp_path / "mine.yaml"


def test_a_misspelt_name_gets_the_nearest():
    with pytest.raises(ConfigError, match=r"no configuration 'ethanl' among .*did you mean 'ethanol'"):
        named_config("ethanl")


def test_a_name_unlike_any_gets_the_whole_list(tmp_path: Path):
    (tmp_path / "mine.yaml").touch()
    with pytest.raises(ConfigError, match=r"no configuration 'xyz' in .*; there are mine\."):
        named_config("xyz", tmp_path)


def test_a_misspelt_folder_gets_the_nearest(tmp_path: Path):
    (tmp_path / "configs").mkdir()
    with pytest.raises(ConfigError, match=r"no folder .*did you mean 'configs'"):
        named_config("mine", tmp_path / "config")


def test_a_misspelt_file_gets_the_nearest(tmp_path: Path):
    (tmp_path / "water.yaml").touch()
    with pytest.raises(ConfigError, match=r"no configuration file .*did you mean 'water.yaml'"):
        config_file(tmp_path / "watr.yaml")


def test_a_name_in_place_of_a_file_gets_the_option():
    with pytest.raises(ConfigError, match="nequip-train -cn ethanol"):
        config_file(Path("ethanol"))


def test_a_file_in_place_of_a_name_gets_the_plain_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mine.yaml").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"nequip-train mine\.yaml"):
        named_config("mine")


def test_other_endings_are_refused(tmp_path: Path):
    (tmp_path / "a.yml").touch()
    with pytest.raises(ConfigError, match=r"is not named \.yaml"):
        config_file(tmp_path / "a.yml")
