from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from nequip.data.sources import MemorySource
from nequip.plotting import write_report

VOID = {"meta", "img", "br", "hr"}


class Page(HTMLParser):
    """What a page shows and what it points to; unbalanced tags are refused."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags, self.open, self.sources, self.links, self.text = [], [], [], [], ""
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name == "src"]
        self.links += [value for name, value in attrs if name == "href"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data + " "


@pytest.fixture
def history(tmp_path) -> Path:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,lr,train/loss,val/loss\n1,0.1,3,4\n2,0.1,2,3\n")
    return path


def test_page_needs_nothing_beside_it(evaluation, history, tmp_path):
    page = Page(write_report({"val": evaluation}, history, tmp_path / "report"))
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert len(page.sources) == 8
    assert not {"script", "link", "iframe"} & set(page.tags)
    style = (tmp_path / "report" / "report.html").read_text(encoding="utf-8").split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_page_fits_a_phone(evaluation, tmp_path):
    html = write_report({"val": evaluation}, None, tmp_path).read_text(encoding="utf-8")
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html


def test_links_lead_to_files(evaluation, tmp_path):
    path = write_report({"val": evaluation, "test": evaluation}, None, tmp_path)
    assert Page(path).links == ["predictions_val.xyz", "predictions_test.xyz"]
    for link in Page(path).links:
        assert len(read(path.parent / link, ":")) == evaluation.num_frames


def test_every_plot_is_a_file_too(evaluation, history, tmp_path):
    write_report({"val": evaluation}, history, tmp_path / "report")
    names = sorted(path.name for path in (tmp_path / "report" / "figures").iterdir())
    assert names == [
        "errors_energy_val.png",
        "errors_forces_val.png",
        "errors_stress_val.png",
        "learning_loss.png",
        "learning_rate.png",
        "parity_energy_val.png",
        "parity_forces_val.png",
        "parity_stress_val.png",
    ]


def test_evaluation_without_a_name_leaves_no_suffix(evaluation, tmp_path):
    write_report({"": evaluation}, None, tmp_path)
    assert (tmp_path / "predictions.xyz").is_file()
    assert (tmp_path / "figures" / "parity_forces.png").is_file()


def test_page_shows_errors_card_and_configuration(evaluation, tmp_path):
    page = Page(write_report({"val": evaluation}, None, tmp_path, config={"seed": 4711}))
    for words in (
        "nequip for H, O",
        "7.90 MAE forces, meV/Å",
        "mean over types",
        "num_layers 3",
        "7.12346",
        "1,000 frames for 7 epochs",
        '"seed": 4711',
    ):
        assert words in page.text


def test_text_of_the_user_is_escaped(evaluation, tmp_path):
    html = write_report({"val": evaluation}, None, tmp_path).read_text(encoding="utf-8")
    assert "water &amp; &lt;ice&gt;.xyz" in html
    assert "<ice>" not in html


def test_worst_frames_are_named_by_their_place_in_the_data(evaluation, tmp_path):
    evaluation.predicted.forces[evaluation.row_ptr[6] : evaluation.row_ptr[7]] += 1.0
    source = MemorySource("water.xyz", evaluation.source.frames[:5] + evaluation.source.frames, "", [])
    moved = replace(evaluation, source=source, index=evaluation.index + 5)
    text = " ".join(Page(write_report({"val": moved}, None, tmp_path)).text.split())
    first = text.split("By forces:")[1].split("meV/atom")[1].split()
    assert first[:4] == [moved.formula(6), "gas", "11", "6"]


def test_frames_without_labels_are_told_of(evaluation, tmp_path):
    nothing = type(evaluation.reference)(*(np.full_like(v, np.nan) for v in evaluation.reference))
    bare = replace(evaluation, reference=nothing, errors={})
    page = Page(write_report({"": bare}, None, tmp_path))
    assert "no labels to compare with" in page.text
    assert page.sources == []
    assert page.links == ["predictions.xyz"]


def test_report_is_written_over_an_older_one(evaluation, tmp_path):
    first = write_report({"": evaluation}, None, tmp_path).read_bytes()
    assert write_report({"": evaluation}, None, tmp_path).read_bytes() == first
