"""What the README and the documentation show exists, and works as shown."""

from __future__ import annotations

import json
import re
import shlex
from itertools import islice
from pathlib import Path

import pytest
from ase.io import iread, write

from nequip.cli.main import COMMANDS, main
from nequip.config.compose import compose
from nequip.data.named_sets import resolve_named_set
from nequip.train.run import run_training
from nequip.version import VERSION

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)


def blocks(language: str) -> list[str]:
    """The code of one language in the README."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def command_lines() -> list[list[str]]:
    """Every call of ours in the README: the command, then its arguments."""
    lines = "\n".join(blocks("text")).splitlines()
    shown = [line.split("  #")[0].removeprefix(".venv/bin/") for line in lines]
    inline = re.findall(r"`(nequip(?:-| )[a-z]+ [^`]+)`", README)
    calls = [shlex.split(line) for line in [*shown, *inline] if line.startswith("nequip")]
    words = [[*call[0].split("-")[1:], *call[1:]] for call in calls]
    return [call for call in words if "--help" not in call]


@pytest.fixture
def generators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes docs/generators importable."""
    monkeypatch.syspath_prepend(ROOT / "docs")


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `my.xyz`, as the README supposes, and its `my.yaml`."""
    frames = islice(iread(resolve_named_set("sample_methanol", tmp_path)), 10)
    write(tmp_path / "my.xyz", list(frames))
    (tmp_path / "my.yaml").write_text(*blocks("yaml"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_fits_in_15_lines():
    (example,) = blocks("yaml")
    assert len(example.splitlines()) <= 15


def test_the_example_trains_and_runs_in_ase(own_data: Path, capsys: pytest.CaptureFixture[str]):
    run_training(compose("my.yaml", ["trainer.max_epochs=1", "data.cache_dir=cache"]))
    capsys.readouterr()
    (example,) = blocks("python")
    exec(example, {})
    energy, *forces = capsys.readouterr().out.split("[[")
    assert float(energy) < 0
    assert forces


def test_the_gpu_section_names_a_group_that_ships(own_data: Path):
    assert compose("my.yaml", ["trainer=gpu"]).trainer.accelerator == "gpu"


@pytest.mark.parametrize("words", command_lines(), ids=" ".join)
def test_command_lines_of_the_readme_parse(words: list[str], generators: None):
    from generators.commands import build_parser

    build_parser(words[0]).parse_args(words[1:])


@pytest.mark.parametrize("name", COMMANDS)
def test_documented_commands_have_help(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert capsys.readouterr().out.startswith("usage:")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    links += [f"{name}.md" for name in re.findall(r"\{doc\}`([^`]+)`", text)]
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_scripts_that_are_named_exist(page: Path):
    named = re.findall(r"scripts/\w+\.py", page.read_text(encoding="utf-8"))
    assert not [script for script in named if not (ROOT / script).exists()]


def test_every_key_of_the_configuration_is_described(generators: None):
    from generators.configuration import key_tables

    assert "| `r_max` | a number above 0 | `5.0` | Å |" in key_tables()


def test_every_command_is_in_the_reference(generators: None):
    from generators.commands import build_parser, help_texts

    text = help_texts()
    assert all(f"usage: {build_parser(name).prog} " in text for name in COMMANDS)


def test_labels_and_named_sets_are_in_the_reference(generators: None):
    from generators.data import label_table, set_table

    assert "`REF_energy`" in label_table()
    assert "`set:sample_methanol`" in set_table()


def test_measurements_are_shown_with_and_without_files(
    generators: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    from generators import benchmarks

    monkeypatch.setattr(benchmarks, "FOLDER", tmp_path)
    assert "No measurement" in benchmarks.benchmark_tables()
    content = {"cases": {"forces": {"ratio": 2.5}}, "rows": [{"atoms": 64}], "threads": [1, 2]}
    (tmp_path / "speed.json").write_text(json.dumps(content))
    tables = benchmarks.benchmark_tables()
    assert "|  | ratio |\n| --- | --- |\n| forces | 2.5 |" in tables
    assert "|  | atoms |\n| --- | --- |\n| 1 | 64 |" in tables
    assert "| `threads` | 1, 2 |" in tables


def test_the_changelog_has_this_version():
    assert f"## [{VERSION}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
