from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nequip.config.compose import compose, expand, to_yaml
from nequip.config.locate import config_names, named_config, shipped_configs
from nequip.config.schema import PretrainedModel
from nequip.errors import ConfigError

Write = Callable[..., Path]
SMALL = "data: {file: water.xyz}\nmodel: {name: nequip, size: S, r_max: 4.5}\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes YAML into the working folder and gives its path."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "config.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def mistakes(file: Path, *words: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        compose(file, words)
    return str(error.value).splitlines()


def test_two_lines_are_a_configuration(write: Write):
    run = compose(write(SMALL))
    assert (run.data.file, run.model.r_max, run.model.l_max) == ("water.xyz", 4.5, 1)


def test_a_key_that_the_file_does_not_mention_can_be_set(write: Write):
    run = compose(
        write(SMALL), ["train.optimizer.lr=1e-3", "train.loss.stress.weight=2", "trainer.devices=auto"]
    )
    assert (run.train.optimizer.lr, run.train.loss.stress.weight, run.trainer.devices) == (1e-3, 2, "auto")


@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_the_signs_of_hydra_mean_the_same(write: Write, sign: str):
    assert compose(write(SMALL), [f"{sign}model.r_max=6"]).model.r_max == 6


def test_a_key_can_be_removed(write: Write):
    file = write(SMALL + "train: {scheduler: {name: StepLR}}\n")
    assert compose(file, ["~train.scheduler"]).train.scheduler is None


@pytest.mark.parametrize(
    "path", ["~/my data (1).xyz", "a=b.xyz", "é.xyz", "set:rmd17_ethanol", "C:\\x y.xyz", 'a"b.xyz']
)
def test_any_path_can_be_given_as_a_word(write: Write, path: str):
    assert compose(write(SMALL), [f"data.file={path}"]).data.file == path


def test_shipped_groups_serve_a_file_anywhere(write: Write):
    run = compose(write("defaults: [{model: nequip_m}, _self_]\ndata: {file: a.xyz}\nmodel: {r_max: 6}\n"))
    assert (run.model.size, run.model.num_layers, run.model.r_max) == ("M", 4, 6)


def test_a_group_may_be_named_from_the_root(write: Write):
    assert compose(write("defaults: [/model: nequip_l]\ndata: {file: a.xyz}\n")).model.size == "L"


def test_groups_beside_the_file_come_before_shipped_ones(write: Write):
    write("{size: L, r_max: 3}\n", "model/nequip_s.yaml")
    assert compose(write("defaults: [model: nequip_s]\ndata: {file: a}\n")).model.r_max == 3


def test_without_self_the_values_of_the_file_win(write: Write):
    assert (
        compose(write("defaults: [model: nequip_s]\ndata: {file: a}\nmodel: {size: M}\n")).model.size == "M"
    )


@pytest.mark.parametrize("defaults", ["", "defaults: [model: nequip_s]\n"])
def test_a_word_chooses_from_a_group_named_in_the_file_or_not(write: Write, defaults: str):
    assert compose(write(f"{defaults}data: {{file: a}}\n"), ["model=nequip_l"]).model.size == "L"


def test_an_experiment_is_a_group_too(write: Write):
    run = compose(write("defaults: [experiment: ethanol]\noutput_dir: mine\n"))
    assert (run.data.split.train, run.output_dir) == (950, "mine")


@pytest.mark.parametrize("name", config_names(shipped_configs()))
def test_every_shipped_configuration_is_valid(name: str):
    starting_point = ["model.file=a.nequip"] if name == "finetune" else []
    compose(named_config(name), ["data.file=a.xyz", *starting_point])


@pytest.mark.parametrize(
    "choice",
    [f"{file.parent.name}={file.stem}" for file in shipped_configs().glob("*/*.yaml")],
)
def test_every_shipped_choice_is_valid(write: Write, choice: str):
    compose(write("{}"), ["data.file=a.xyz", choice])


def test_energy_choice_trains_a_model_of_energies(write: Write):
    run = compose(write(SMALL), ["train=energy"])
    assert run.model.energy_only
    assert run.train.loss.forces is None


def test_a_potential_in_a_file_stands_in_the_place_of_an_architecture(write: Write):
    run = compose(write("data: {file: new.xyz, replay: {file: old.xyz}}\nmodel: {file: old.nequip}\n"))
    assert isinstance(run.model, PretrainedModel)
    assert compose(write(to_yaml(run))) == run


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        (
            "model.r_max=5",
            "model.r_max: belongs to the shape of a model, which model.file brings: leave it out",
        ),
        ("model=nequip_s", "model.size: belongs to the shape of a model"),
        ("model.heda=cc", "model.heda: no such key (did you mean model.head?)"),
        ("model.per_type_energy_shifts=kep", "(did you mean 'keep'?)"),
        ("data.replay.fiel=a", "data.replay.fiel: no such key (did you mean data.replay.file?)"),
    ],
)
def test_mistakes_beside_the_file_of_a_potential_get_one_sentence(write: Write, word: str, sentence: str):
    file = write("data: {file: new.xyz, replay: {file: old.xyz}}\nmodel: {file: old.nequip}\n")
    assert any(sentence in line for line in mistakes(file, word))


def test_a_potential_named_as_elsewhere_is_led_to_its_key(write: Write):
    assert "model.from: no such key (did you mean model.file?)" in mistakes(write(SMALL), "model.from=a")[0]


def test_seed_of_the_run_seeds_the_weights(write: Write):
    assert compose(write(SMALL), ["seed=7"]).model.seed == 7
    assert compose(write(SMALL), ["seed=7", "model.seed=1"]).model.seed == 1


def test_the_printed_configuration_composes_to_the_same_run(write: Write):
    run = compose(named_config("methanol_demo"), ["train.loss.forces.type_weights={H: 2}", "seed=3"])
    assert compose(write(to_yaml(run))) == run


def test_a_list_given_as_a_word_may_be_longer_than_that_of_the_file(write: Write):
    file = write(SMALL + "train: {loss: {schedule: []}}\n")
    (line,) = mistakes(file, "train.loss.schedule=[{epoch: 1, weights: {}, extra: 2}]")
    assert line == "train.loss.schedule[0].extra: no such key [command line]"


def test_environment_variables_can_be_used(write: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FRAMES", "/data")
    assert compose(write("data: {file: '${oc.env:FRAMES}/a.xyz'}")).data.file == "/data/a.xyz"


def test_words_with_commas_expand_to_every_combination():
    assert expand(["model.l_max=1,2", "seed=3", "model=nequip_s,nequip_m"]) == [
        ["model.l_max=1", "seed=3", "model=nequip_s"],
        ["model.l_max=1", "seed=3", "model=nequip_m"],
        ["model.l_max=2", "seed=3", "model=nequip_s"],
        ["model.l_max=2", "seed=3", "model=nequip_m"],
    ]


def test_all_mistakes_are_reported_at_once_with_their_places(write: Write):
    file = write("data:\n  fil: a.xyz\nmodel:\n  r_max: -1\ntrain:\n  lr: 0.1\n")
    assert sorted(mistakes(file, "trainer.devices=many")) == [
        "data.fil: no such key (did you mean data.file?) [config.yaml:2]",
        "data.file: has to be given [config.yaml]",
        "model.r_max: -1 is given where a number above 0 is expected [config.yaml:4]",
        "train.lr: no such key (did you mean train.optimizer.lr?) [config.yaml:6]",
        "trainer.devices: 'many' is given where a whole number or 'auto' is expected [command line]",
    ]


def test_a_mistake_in_a_group_names_its_file(write: Write):
    write("rmax: 3\n", "model/mine.yaml")
    file = write("defaults: [model: mine]\ndata: {file: a}\n")
    assert mistakes(file) == ["model.rmax: no such key (did you mean model.r_max?) [model/mine.yaml:1]"]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("data: {file: [a\nmodel:", "config.yaml:2 is not YAML"),
        ("data:\n\tfile: a", "config.yaml:2 is not YAML"),
        ("data: {}\ndata: {}", "found duplicate key data"),
        ("- data", "holds no keys"),
        ("", "data.file: has to be given"),
        ("data:\n  file: ???", "data.file: has to be given [config.yaml:2]"),
        ("data: water.xyz", "data: 'water.xyz' is given where a section (with the keys file,"),
        ("defaults: model", "defaults must be a list"),
        ("defaults: [modell: nequip_s]", "modell has no choice 'nequip_s' (did you mean 'model'?)"),
        ("defaults: [model: nequip_z]", "model has no choice 'nequip_z' (did you mean 'nequip_s'?)"),
        ("hydra: {run: {dir: x}}", "results go to output_dir [config.yaml:1]"),
        ("data: {file: '${nowhere}'}", "data.file: Interpolation key 'nowhere' not found"),
        ("data: {file: a}\nmodel: nequip", "model: 'nequip' is given where a section is expected"),
        ("data: {file: a}\n1: b", "[1]: no such key [config.yaml:2]"),
    ],
)
def test_a_broken_file_gets_one_line(write: Write, text: str, mistake: str):
    (line,) = mistakes(write(text))
    assert mistake in line


def test_a_file_that_is_not_text_gets_one_line(write: Write):
    file = write("")
    file.write_bytes(b"data: \xff")
    assert len(mistakes(file)) == 1


@pytest.mark.parametrize(
    ("word", "mistake"),
    [
        ("r_max", "'r_max' is not of the form key=value"),
        ("model.l_max=1,2", "several values need --multirun"),
        ("data=water.xyz", "to give a file write data.file=water.xyz"),
        ("model=nequip_x", "(did you mean 'nequip_xl'?)"),
        ("trainer=5", "write trainer=CHOICE or trainer.KEY=VALUE"),
        ("hydra.run.dir=x", "results go to output_dir"),
        ("~train.nothing", "'train.nothing' does not exist"),
        ("model.name=nequipp", "(did you mean 'nequip'?)"),
        ("model.name=3", "no architecture is called '3'"),
        ("model.size=H", "'H' is given where 'S', 'M', 'L', 'XL' or null is expected"),
        ("train.loss.forces.kind=hubr", "is expected (did you mean 'huber'?)"),
        ("data.batch_size=3", "(did you mean data.batch.size?)"),
        ("model.cutoff=4", "(did you mean model.r_max?)"),
        ("trainer.epochs=4", "(did you mean trainer.max_epochs?)"),
        ("learning_rate=4", "(did you mean train.optimizer.lr?)"),
        ("train.ema_decay=2", "2 is given where a number above 0 and below 1 or null is expected"),
        ("trainer.max_time=2h", "'2h' is given where a time as DD:HH:MM:SS or null is expected"),
        ("trainer.accelerator=gpus", "(did you mean 'gpu'?)"),
        ("train.gradient_clip=nan", "nan is given where a number above 0 or null is expected"),
        ("model.type_names=[H,1]", "[H, 1] is given where a list (each entry text) or 'auto' is expected"),
        ("model._target_=os.system", "code may be named only below extensions"),
        ("train.optimizer.params={_target_: x}", "code may be named only below extensions"),
        ("train.loss.schedule=[{epoch: -1, weights: {}}]", "train.loss.schedule[0].epoch: -1 is given"),
        ("model.num_features=[4,4,4]", "model: num_features has 3 entries"),
        ("model.energy_only=true", "model.energy_only leaves no forces, stress or Hessian to train on"),
        ("seed=x", "seed: 'x' is given where a whole number is expected [command line]"),
    ],
)
def test_a_wrong_word_gets_one_line(write: Write, word: str, mistake: str):
    (line,) = mistakes(write(SMALL), word)
    assert mistake in line


def test_callbacks_of_others_are_named_below_extensions(write: Write):
    run = compose(write(SMALL + "extensions: {callbacks: [{_target_: theirs.Callback}]}\n"))
    assert run.extensions.callbacks == ({"_target_": "theirs.Callback"},)
