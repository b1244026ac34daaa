"""Named data sets against a real HTTP server on this machine, with archives of every layout."""

import hashlib
import io
import json
import logging
import multiprocessing
import os
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from nequip.data.named_sets import (
    NamedSet,
    Remote,
    list_named_sets,
    published_sets,
    resolve_named_set,
)
from nequip.data.named_sets.convert import LAYOUTS
from nequip.errors import DataError

FRAMES = 12
KCAL_PER_MOL = units.kcal / units.mol
NUMBERS = np.array([6, 6, 8, 1])

Pack = Callable[[dict[str, bytes]], bytes]


class Server(ThreadingHTTPServer):
    """Serves `contents` by path; `behaviour` says how a path misbehaves."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents: dict[str, bytes] = {}
        self.behaviour: dict[str, str] = {}
        self.asked: list[str] = []
        self.go_on = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def offer(self, path: str, content: bytes, behaviour: str = "") -> Remote:
        self.contents[path], self.behaviour[path] = content, behaviour
        return Remote(self.url(path), f"md5:{hashlib.md5(content).hexdigest()}", len(content))


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        content = self.server.contents.get(self.path)
        behaviour = self.server.behaviour.get(self.path, "")
        if content is None:
            self.send_error(404)
            return
        self.send_response(202 if behaviour == "gatekeeper" else 200)
        kind = "text/html" if behaviour == "web page" else "application/octet-stream"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        if behaviour == "truncated":
            return
        if behaviour == "stalls":
            self.wfile.flush()
            self.server.go_on.wait(30)
        self.wfile.write(content[half:])

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "nuclear_charges": NUMBERS.astype(np.uint8),
        "coords": random.normal(size=(FRAMES, 4, 3)),
        "energies": -97_000 + random.normal(size=FRAMES),
        "forces": 20 * random.normal(size=(FRAMES, 4, 3)),
        "old_indices": np.arange(FRAMES),
    }


def npz(content: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **content)
    return buffer.getvalue()


def tar(members: dict[str, bytes], mode: str = "w:bz2") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def rmd17_archive() -> bytes:
    return tar(
        {
            "rmd17/readme.txt": b"revised MD17",
            "rmd17/npz_data/rmd17_ethanol.npz": npz(arrays()),
            "rmd17/splits/index_train_01.csv": b"7\n0\n11\n3\n",
        }
    )


def ethanol(remote: Remote, rows: tuple[Remote, ...] = (), name: str = "ethanol") -> NamedSet:
    return NamedSet(
        name=name,
        elements=("H", "C", "O"),
        level="PBE/def2-SVP",
        licence="CC0-1.0",
        citation="somebody (2020)",
        layout="npz-rmd17",
        sources=(replace(remote, member="rmd17/npz_data/rmd17_ethanol.npz"),),
        rows=rows,
    )


def resolve(entry: NamedSet, cache: Path, **options: object) -> Path:
    return resolve_named_set(entry.name, cache, catalogue={entry.name: entry}, **options)


def left_behind(cache: Path) -> list[str]:
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())


def test_archive_is_downloaded_and_converted_to_ev(server: Server, tmp_path: Path) -> None:
    entry = ethanol(server.offer("/rmd17.tar.bz2", rmd17_archive()))
    path = resolve(entry, tmp_path / "deep" / "cache")
    assert path == tmp_path / "deep" / "cache" / "ethanol.xyz"
    frames, expected = read(path, ":"), arrays()
    assert len(frames) == FRAMES
    for index, atoms in enumerate(frames):
        assert atoms.numbers.tolist() == NUMBERS.tolist()
        assert not atoms.pbc.any()
        assert np.array_equal(atoms.positions, expected["coords"][index])
        energy = expected["energies"][index] * KCAL_PER_MOL
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-10)
        forces = expected["forces"][index] * KCAL_PER_MOL
        np.testing.assert_allclose(atoms.get_forces(), forces, rtol=0, atol=1e-10)


def test_the_unit_is_that_of_ase() -> None:
    assert pytest.approx(0.0433641, abs=1e-7) == KCAL_PER_MOL
    assert LAYOUTS["extxyz-atomic-units"].keywords["energy"] == pytest.approx(27.211386, abs=1e-6)


def test_origin_lies_beside_the_file(server: Server, tmp_path: Path) -> None:
    content = rmd17_archive()
    resolve(ethanol(server.offer("/rmd17.tar.bz2", content)), tmp_path)
    origin = json.loads((tmp_path / "ethanol.json").read_text())
    (source,) = origin["sources"]
    assert source["url"] == server.url("/rmd17.tar.bz2")
    assert source["sha256"] == hashlib.sha256(content).hexdigest()
    assert source["published_checksum"] == f"md5:{hashlib.md5(content).hexdigest()}"
    assert origin["licence"] == "CC0-1.0"
    assert origin["citation"] == "somebody (2020)"
    assert origin["frames"] == FRAMES
    assert origin["date"].endswith("+00:00")


def test_cached_file_needs_no_server(server: Server, tmp_path: Path) -> None:
    entry = ethanol(server.offer("/rmd17.tar.bz2", rmd17_archive()))
    path = resolve(entry, tmp_path)
    before = path.read_bytes()
    gone = replace(entry, sources=(Remote("http://127.0.0.1:9/gone"),))
    assert resolve(gone, tmp_path) == path
    assert path.read_bytes() == before
    assert server.asked == ["/rmd17.tar.bz2"]


def test_a_file_that_the_user_put_there_is_used(tmp_path: Path) -> None:
    (tmp_path / "ethanol.xyz").write_text("mine")
    entry = ethanol(Remote("http://127.0.0.1:9/gone"))
    path = resolve_named_set("set:ethanol", tmp_path, catalogue={"ethanol": entry})
    assert path.read_text() == "mine"


def test_split_takes_its_rows_from_the_same_archive(server: Server, tmp_path: Path) -> None:
    archive = server.offer("/rmd17.tar.bz2", rmd17_archive())
    rows = (replace(archive, member="rmd17/splits/index_train_01.csv"),)
    resolve(ethanol(archive), tmp_path)
    path = resolve(ethanol(archive, rows, "ethanol_train01"), tmp_path)
    positions = [atoms.positions for atoms in read(path, ":")]
    np.testing.assert_array_equal(positions, arrays()["coords"][[7, 0, 11, 3]])
    assert server.asked == ["/rmd17.tar.bz2"]  # once for both sets and for the list of rows


def test_row_out_of_range_is_an_error(server: Server, tmp_path: Path) -> None:
    rows = server.offer("/rows.csv", b"0\n12\n")
    entry = ethanol(server.offer("/rmd17.tar.bz2", rmd17_archive()), (rows,))
    with pytest.raises(DataError, match="frame 12 was asked for, and it has 12"):
        resolve(entry, tmp_path)


def test_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    remote = server.offer("/rmd17.tar.bz2", rmd17_archive())
    entry = ethanol(replace(remote, checksum="sha256:" + "0" * 64))
    got = hashlib.sha256(server.contents["/rmd17.tar.bz2"]).hexdigest()
    with pytest.raises(DataError, match=f"has the sha256 {got} and not {'0' * 64}, as published"):
        resolve(entry, tmp_path)
    assert left_behind(tmp_path) == []


def test_damaged_download_in_the_cache_is_fetched_again(server: Server, tmp_path: Path) -> None:
    entry = ethanol(server.offer("/rmd17.tar.bz2", rmd17_archive()))
    path = resolve(entry, tmp_path)
    whole = path.read_bytes()
    path.unlink()
    (stored,) = (tmp_path / "downloads").iterdir()
    stored.write_bytes(stored.read_bytes()[:100])
    assert resolve(entry, tmp_path).read_bytes() == whole
    assert len(server.asked) == 2


def test_unverified_download_says_so_and_is_remembered(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remote = replace(server.offer("/rmd17.tar.bz2", rmd17_archive()), checksum=None)
    entry = ethanol(remote)
    with caplog.at_level(logging.WARNING):
        path = resolve(entry, tmp_path)
    sha256 = hashlib.sha256(server.contents["/rmd17.tar.bz2"]).hexdigest()
    assert [record.message for record in caplog.records] == [
        f"{remote.url} could not be verified, nobody published its checksum; its sha256 is {sha256}"
    ]
    path.unlink()
    for stored in (tmp_path / "downloads").iterdir():
        stored.unlink()
    server.contents["/rmd17.tar.bz2"] = tar({"something": b"else"})
    with pytest.raises(DataError, match=f"and not {sha256}, as at the first download"):
        resolve(entry, tmp_path)
    server.contents["/rmd17.tar.bz2"] = rmd17_archive()


def test_truncated_body_is_no_file(server: Server, tmp_path: Path) -> None:
    remote = server.offer("/rmd17.tar.bz2", rmd17_archive(), "truncated")
    for entry in (ethanol(remote), ethanol(replace(remote, checksum=None))):
        with pytest.raises(DataError, match=r"without network, pass data\.file=PATH"):
            resolve(entry, tmp_path)
        assert left_behind(tmp_path) == []
    server.behaviour.clear()
    assert resolve(ethanol(remote), tmp_path).is_file()


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [("gatekeeper", "it answered with status 202"), ("web page", "a web page instead of the file")],
)
def test_other_answers(server: Server, tmp_path: Path, behaviour: str, reason: str) -> None:
    entry = ethanol(server.offer("/file", b"<html>prove that you are human</html>", behaviour))
    with pytest.raises(DataError, match=reason):
        resolve(entry, tmp_path)
    assert left_behind(tmp_path) == []


def test_missing_file_and_missing_server_say_what_to_do(server: Server, tmp_path: Path) -> None:
    entry = ethanol(Remote(server.url("/gone.tar.bz2")))
    with pytest.raises(DataError) as caught:
        resolve(entry, tmp_path)
    text = str(caught.value)
    assert "Could not download the data set 'ethanol'" in text
    assert server.url("/gone.tar.bz2") in text
    assert "it answered with status 404" in text
    assert f"put an extxyz file (eV, Å) at {tmp_path / 'ethanol.xyz'}" in text
    with pytest.raises(DataError, match="refused"):
        resolve(ethanol(Remote("http://127.0.0.1:9/file")), tmp_path)


def test_silent_server_is_given_up(server: Server, tmp_path: Path) -> None:
    entry = ethanol(server.offer("/rmd17.tar.bz2", rmd17_archive(), "stalls"))
    with pytest.raises(DataError, match="timed out"):
        resolve(entry, tmp_path, timeout=0.2)
    assert left_behind(tmp_path) == []


def test_mirror_is_tried_when_the_first_source_fails(server: Server, tmp_path: Path) -> None:
    good = ethanol(server.offer("/rmd17.tar.bz2", rmd17_archive()))
    entry = replace(good, sources=(Remote(server.url("/gone.npz"), "md5:00"), *good.sources))
    resolve(entry, tmp_path)
    assert server.asked == ["/gone.npz", "/rmd17.tar.bz2"]
    (source,) = json.loads((tmp_path / "ethanol.json").read_text())["sources"]
    assert source["url"] == server.url("/rmd17.tar.bz2")


def test_progress_ends_at_the_whole(server: Server, tmp_path: Path) -> None:
    content = rmd17_archive()
    seen: list[tuple[int, int | None]] = []
    entry = ethanol(server.offer("/rmd17.tar.bz2", content))
    resolve(entry, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(content), len(content))


def test_killed_download_leaves_nothing_that_looks_whole(server: Server, tmp_path: Path) -> None:
    entry = ethanol(server.offer("/rmd17.tar.bz2", rmd17_archive(), "stalls"))
    process = multiprocessing.get_context("spawn").Process(target=resolve, args=(entry, tmp_path))
    process.start()
    wait_for(lambda: list(tmp_path.rglob("*.part")))
    process.kill()
    process.join()
    (part,) = left_behind(tmp_path)
    assert part.endswith(".part")
    server.behaviour.clear()
    assert len(read(resolve(entry, tmp_path), ":")) == FRAMES
    assert part in left_behind(tmp_path)  # it could belong to a living process
    os.utime(tmp_path / part, (0, 0))
    (tmp_path / "ethanol.xyz").unlink()
    resolve(entry, tmp_path)
    assert part not in left_behind(tmp_path)


def test_two_processes_at_once(server: Server, tmp_path: Path) -> None:
    entry = ethanol(server.offer("/rmd17.tar.bz2", rmd17_archive(), "stalls"))
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=resolve, args=(entry, tmp_path)) for _ in range(2)]
    for process in processes:
        process.start()
    wait_for(lambda: len(server.asked) == 2)  # both are in the middle of it
    server.go_on.set()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(read(tmp_path / "ethanol.xyz", ":")) == FRAMES
    assert not list(tmp_path.rglob("*.part"))


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("pack", [tar, partial(tar, mode="w:gz"), partial(tar, mode="w"), zipped])
def test_no_member_is_ever_unpacked_to_a_path(server: Server, tmp_path: Path, pack: Pack) -> None:
    outside = tmp_path / "outside.xyz"
    members = {
        "../outside.xyz": b"evil",
        "../../outside.xyz": b"evil",
        str(outside): b"evil",
        "rmd17/npz_data/rmd17_ethanol.npz": npz(arrays()),
    }
    cache = tmp_path / "cache"
    resolve(ethanol(server.offer("/archive", pack(members))), cache)
    assert not outside.exists()
    assert len(left_behind(tmp_path)) == 3  # the file, its origin, the archive
    assert all(name.startswith("cache/") for name in left_behind(tmp_path))


@pytest.mark.parametrize("pack", [tar, zipped])
def test_missing_member_names_the_nearest(server: Server, tmp_path: Path, pack: Pack) -> None:
    entry = ethanol(server.offer("/archive", pack({"rmd17/npz_data/rmd17_ethanol2.npz": b""})))
    with pytest.raises(DataError, match="did you mean 'rmd17/npz_data/rmd17_ethanol2"):
        resolve(entry, tmp_path)
    assert "ethanol.xyz" not in left_behind(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive at all", rmd17_archive()[:-300], zipped({})])
def test_broken_archive_is_not_kept_if_it_was_not_verified(
    server: Server, tmp_path: Path, content: bytes
) -> None:
    entry = ethanol(replace(server.offer("/archive", content), checksum=None))
    with pytest.raises(DataError, match="did not send a file of the kind 'npz-rmd17'"):
        resolve(entry, tmp_path)
    assert left_behind(tmp_path) == []
    server.offer("/archive", rmd17_archive())
    assert resolve(entry, tmp_path).is_file()


def test_npz_without_the_arrays(server: Server, tmp_path: Path) -> None:
    content = arrays()
    del content["forces"]
    entry = replace(ethanol(Remote("")), sources=(server.offer("/a.npz", npz(content)),))
    with pytest.raises(DataError, match="it has no array forces"):
        resolve(entry, tmp_path)


def test_full_disk_is_told(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    entry = ethanol(server.offer("/rmd17.tar.bz2", rmd17_archive()))
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match="the disk is full; choose another cache folder"):
        resolve(entry, tmp_path)
    assert left_behind(tmp_path) == []


def test_cache_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match="Could not write the data set 'ethanol'"):
        resolve(ethanol(Remote("http://127.0.0.1:9/file")), tmp_path / "cache")


def test_unexpected_number_of_frames_is_told(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = replace(ethanol(server.offer("/rmd17.tar.bz2", rmd17_archive())), frames=13)
    resolve(entry, tmp_path)
    assert "ethanol has 12 frames, not 13 as stated" in caplog.messages


def of_layout(layout: str, remote: Remote, member: str = "") -> NamedSet:
    return replace(ethanol(Remote("")), layout=layout, sources=(replace(remote, member=member),))


def test_sgdml_npz(server: Server, tmp_path: Path) -> None:
    old = arrays()
    names = {"z": "nuclear_charges", "R": "coords", "E": "energies", "F": "forces"}
    new = {new: old[name] for new, name in names.items()}
    new["E"] = new["E"][:, None]  # as sGDML's files have it
    frames = read(resolve(of_layout("npz-sgdml", server.offer("/a.npz", npz(new))), tmp_path), ":")
    energies = [atoms.get_potential_energy() for atoms in frames]
    np.testing.assert_allclose(energies, old["energies"] * KCAL_PER_MOL, rtol=0, atol=1e-10)


def crystal(seed: int) -> Atoms:
    random = np.random.default_rng(seed)
    cell = 5 * np.eye(3) + random.normal(scale=0.3, size=(3, 3))
    atoms = Atoms(numbers=NUMBERS, positions=random.uniform(0, 5, (4, 3)), cell=cell, pbc=True)
    forces = random.normal(size=(4, 3))
    labels = {"energy": random.normal(), "forces": forces, "stress": np.ones(6)}
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


def extxyz(frames: list[Atoms]) -> bytes:
    text = io.StringIO()
    write(text, frames, format="extxyz")
    return text.getvalue().encode()


def test_extxyz_from_a_zip_keeps_labels_but_no_stress(server: Server, tmp_path: Path) -> None:
    frames = [crystal(seed) for seed in range(3)]
    frames[1].info["config_type"] = 'melt at "2000 K"'
    content = extxyz(frames)
    archive = server.offer("/set.zip", zipped({"folder/a.xyz": content, "folder/b.xyz": b""}))
    path = resolve(of_layout("extxyz", archive, "folder/a.xyz"), tmp_path)
    for got, expected in zip(
        read(path, ":"), read(io.StringIO(content.decode()), ":", "extxyz"), strict=True
    ):
        assert np.array_equal(got.positions, expected.positions)
        assert np.array_equal(got.cell.array, expected.cell.array)
        assert got.pbc.all()
        assert got.get_potential_energy() == expected.get_potential_energy()
        assert np.array_equal(got.get_forces(), expected.get_forces())
        assert "stress" not in got.calc.results
    assert read(path, 1).info["group"] == 'melt at "2000 K"'


def test_isolated_atoms_have_energies_only(server: Server, tmp_path: Path) -> None:
    header = b'Properties=species:S:1:pos:R:3 energy=-13.587222780835477 pbc="F F F"'
    text = b"1\n" + header + b"\nH 0.0 0.0 0.0\n"
    path = resolve(of_layout("extxyz", server.offer("/iso_atoms.xyz", text)), tmp_path)
    atoms = read(path)
    assert atoms.get_potential_energy() == -13.587222780835477
    assert "forces" not in atoms.calc.results
    assert not atoms.cell.array.any()


def test_molecule_in_a_box_has_no_cell(server: Server, tmp_path: Path) -> None:
    atoms = crystal(0)
    atoms.pbc = False
    path = resolve(of_layout("extxyz", server.offer("/a.xyz", extxyz([atoms]))), tmp_path)
    assert not read(path).cell.array.any()


@pytest.mark.parametrize("text", [b"", b"not\nextxyz", b"2\n\nH 0 0 0\n", b"1\n\nH 0 0 0\n"])
def test_broken_extxyz(server: Server, tmp_path: Path, text: bytes) -> None:
    with pytest.raises(DataError, match="did not send a file of the kind 'extxyz'"):
        resolve(of_layout("extxyz", server.offer("/a.xyz", text)), tmp_path)
    assert "ethanol.xyz" not in left_behind(tmp_path)


def test_atomic_units(server: Server, tmp_path: Path) -> None:
    atoms = crystal(0)
    atoms.info["TotEnergy"] = -17.25
    atoms.arrays["force"] = atoms.get_forces()
    atoms.calc = None
    remote = server.offer("/w.xyz", extxyz([atoms]))
    got = read(resolve(of_layout("extxyz-atomic-units", remote), tmp_path))
    assert got.get_potential_energy() == pytest.approx(-17.25 * units.Hartree, abs=1e-10)
    np.testing.assert_allclose(got.positions, atoms.positions * units.Bohr, atol=1e-7)
    np.testing.assert_allclose(got.cell.array, atoms.cell.array * units.Bohr, atol=1e-7)
    unit = units.Hartree / units.Bohr
    np.testing.assert_allclose(got.get_forces(), atoms.arrays["force"] * unit, atol=1e-6)


def test_mlearn_json(server: Server, tmp_path: Path) -> None:
    atoms = crystal(0)
    sites = [
        {"species": [{"element": symbol, "occu": 1}], "xyz": position, "label": symbol}
        for symbol, position in zip(atoms.symbols, atoms.positions.tolist(), strict=True)
    ]
    record = {
        "structure": {"lattice": {"matrix": atoms.cell.array.tolist()}, "sites": sites},
        "outputs": {
            "energy": -526.30686678,
            "forces": atoms.get_forces().tolist(),
            "virial_stress": [331.57, 410.39, 330.71, -1.21, 21.59, 2.48],
        },
        "group": "AIMD-NVT",
    }
    remote = server.offer("/training.json", json.dumps([record, record]).encode())
    first, second = read(resolve(of_layout("json-mlearn", remote), tmp_path), ":")
    assert first == second
    assert first.get_potential_energy() == -526.30686678
    assert np.array_equal(first.positions, atoms.positions)
    assert np.array_equal(first.cell.array, atoms.cell.array)
    assert np.array_equal(first.get_forces(), atoms.get_forces())
    assert first.symbols.get_chemical_formula() == atoms.symbols.get_chemical_formula()
    assert first.info["group"] == "AIMD-NVT"
    assert "stress" not in first.calc.results


def test_unknown_name_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        resolve_named_set("set:rmd17_etanol", tmp_path)
    assert str(caught.value) == (
        "There is no data set 'rmd17_etanol' (did you mean 'rmd17_ethanol'?): `nequip-data sets`"
        " lists them, and data.file also takes the path of a file."
    )


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", ""])
def test_name_cannot_leave_the_cache(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.xyz").write_text("secret")
    with pytest.raises(DataError, match="There is no data set"):
        resolve_named_set(name, tmp_path / "cache")


def test_samples_ship_with_the_package(tmp_path: Path) -> None:
    assert resolve_named_set("set:sample_methanol", tmp_path).name == "methanol.xyz"
    for entry in list_named_sets():
        if entry.packaged:
            assert entry.size == 0
            frames = read(resolve_named_set(entry.name, tmp_path / "never made"), ":")
            assert len(frames) == entry.frames
            assert {symbol for atoms in frames for symbol in atoms.symbols} == set(entry.elements)
    assert not (tmp_path / "never made").exists()


def test_missing_sample_is_told(tmp_path: Path) -> None:
    entry = replace(published_sets()["sample_methanol"], packaged="gone.xyz")
    with pytest.raises(DataError, match=r"gone\.xyz is missing from this installation"):
        resolve(entry, tmp_path)


def test_catalogue_is_sound() -> None:
    entries = list_named_sets()
    assert len(entries) == len({entry.name for entry in entries}) > 100
    for entry in entries:
        assert Path(entry.name).name == entry.name  # a plain file name
        assert entry.layout in LAYOUTS
        assert entry.level
        assert entry.licence
        assert entry.citation
        assert entry.elements
        assert bool(entry.packaged) != bool(entry.sources)
        assert entry.size is None or entry.size >= 0
        for remote in (*entry.sources, *entry.rows):
            assert remote.url.startswith(("https://", "http://www.quantum-machine.org/"))
            if remote.checksum is not None:
                algorithm, _, digest = remote.checksum.partition(":")
                assert len(digest) == {"md5": 32, "sha256": 64}[algorithm]
                assert int(digest, 16) >= 0
