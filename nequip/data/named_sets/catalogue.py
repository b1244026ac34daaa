"""What is known about each public data set: where it lies, how to verify it, what it holds.

URLs, checksums and sizes are those that the publishers, or published code that downloads the same
files, state. What nobody states is None or "not stated", never guessed. None of these files was
ever downloaded on the machine where this catalogue was written (it has no network): the first
download is the first test of an entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

NOT_STATED = "not stated by the publisher"


@dataclass(frozen=True)
class Remote:
    """One file on the web, or one member of an archive there."""

    url: str
    checksum: str | None = None  # "md5:..." or "sha256:..." of what the URL serves
    size: int | None = None  # bytes of what the URL serves; shown to the user, never checked
    member: str = ""  # path inside the archive; empty: the file itself


@dataclass(frozen=True)
class NamedSet:
    """One data set: its facts, and the places where it is published, the best one first."""

    name: str
    elements: tuple[str, ...]
    level: str  # level of theory
    licence: str
    citation: str
    layout: str  # how the published file is laid out, a key of `convert.LAYOUTS`
    sources: tuple[Remote, ...] = ()  # mirrors of the frames
    rows: tuple[Remote, ...] = ()  # mirrors of a list of frame numbers, from 0; empty: all frames
    frames: int | None = None
    packaged: str = ""  # file in nequip/data/sample that is the set; empty: it is downloaded

    @property
    def size(self) -> int | None:
        """Bytes to download from the first source, where they are known."""
        return 0 if self.packaged else self.sources[0].size


def published_sets() -> dict[str, NamedSet]:
    """Every data set by name, in the order in which they are listed."""
    families = (_sample, _rmd17, _ccsd, _md22, _three_bpa, _acac, _water, _mlearn, _tm23)
    return {entry.name: entry for family in families for entry in family()}


def _sample() -> Iterator[NamedSet]:
    """Computed for this package, and shipped with it; nequip/data/sample/README.md says how."""
    counts = {"methanol": 300, "methanol_isolated_atoms": 3, "methanol_hessian": 6}
    for name, frames in counts.items():
        yield NamedSet(
            name=f"sample_{name}",
            elements=("H", "C", "O"),
            level="B3LYP/6-31G*",
            licence="MIT",
            citation="ships with this package",
            layout="extxyz",
            frames=frames,
            packaged=f"{name}.xyz",
        )


# Figshare file number, md5 and bytes of version 4 of the article: one file per molecule.
_RMD17_MOLECULES = {
    "aspirin": (62265757, "17fd6fb69066888613f7e16b358a7553", 153_601_803, "HCO"),
    "azobenzene": (62265754, "be79df918468eb3579aa73a0becf7390", 175_180_782, "HCN"),
    "benzene": (62265739, "18c9242bc90fbf28215f6dd81e650f16", 88_801_794, "HC"),
    "ethanol": (62265733, "eb837fb8deb27d4e0d52f71a03aff776", 67_201_791, "HCO"),
    "malonaldehyde": (62265736, "cdc1d70c0c34062ddde6e5071eb6fe21", 67_201_791, "HCO"),
    "naphthalene": (62265751, "0efba19c9907e3852318b1e6008b3b9e", 132_001_800, "HC"),
    "paracetamol": (62265760, "ba10784f7b67635427085f6d7ec2dd97", 146_401_802, "HCNO"),
    "salicylic": (62265748, "900fedf242da438400fa4293348d7dd1", 117_601_798, "HCO"),
    "toluene": (62265742, "0f2913d51f8149c90ab28d697a076f64", 110_401_797, "HC"),
    "uracil": (62265745, "992a4479c28a07e0cce6da964805be31", 88_801_794, "HCNO"),
}
_RMD17_SPLITS = {
    "train": (62265793, "22264dcf2e42d6133362411abbbe4ce8"),
    "test": (62265781, "124c8a0849e84e244d6ce8424e1c05cf"),
}


def _rmd17() -> Iterator[NamedSet]:
    """Ten molecules, each whole, and as the first published split into 1000 + 1000 frames."""

    def mirrors(number: int, md5: str, size: int | None, member: str) -> tuple[Remote, ...]:
        archive = "https://archive.materialscloud.org/records/pfffs-fff86/files/rmd17.tar.bz2"
        whole = "md5:cb1a927628d96f2e966025da4fb63d18"
        return (
            Remote(f"https://ndownloader.figshare.com/files/{number}", f"md5:{md5}", size),
            Remote(archive + "?download=1", whole, 1_066_301_513, f"rmd17/{member}"),
        )

    for molecule, (number, md5, size, elements) in _RMD17_MOLECULES.items():
        sources = mirrors(number, md5, size, f"npz_data/rmd17_{molecule}.npz")
        rows = {
            f"_{part}01": mirrors(*file, None, f"splits/index_{part}_01.csv")
            for part, file in _RMD17_SPLITS.items()
        }
        whole = 99_988 if molecule == "azobenzene" else 100_000
        for suffix in ("", "_train01", "_test01"):
            yield NamedSet(
                name=f"rmd17_{molecule}{suffix}",
                elements=tuple(elements),
                level="PBE/def2-SVP",
                licence="CC0-1.0",
                citation="Christensen, von Lilienfeld, Mach. Learn. Sci. Technol. 1, 045018 (2020)",
                layout="npz-rmd17",
                sources=sources,
                rows=rows.get(suffix, ()),
                frames=1000 if suffix else whole,
            )


_CCSD_FILES = {
    "aspirin": ("aspirin_ccsd", "HCO"),
    "benzene": ("benzene_ccsd_t", "HC"),
    "ethanol": ("ethanol_ccsd_t", "HCO"),
    "malonaldehyde": ("malonaldehyde_ccsd_t", "HCO"),
    "toluene": ("toluene_ccsd_t", "HC"),
}


def _ccsd() -> Iterator[NamedSet]:
    """The coupled-cluster trajectories of sGDML, in their published training and test halves."""
    for molecule, (stem, elements) in _CCSD_FILES.items():
        for part in ("train", "test"):
            urls = (
                f"http://www.quantum-machine.org/gdml/data/npz/{stem}.zip",
                f"https://sgdml.org/secure_proxy.php?file=data/npz/{stem}.zip",
            )
            yield NamedSet(
                name=f"ccsd_{molecule}_{part}",
                elements=tuple(elements),
                level="CCSD(T)" if stem.endswith("_t") else "CCSD",
                licence=NOT_STATED,
                citation="Chmiela et al., Nat. Commun. 9, 3887 (2018)",
                layout="npz-sgdml",
                sources=tuple(Remote(url, member=f"{stem}-{part}.npz") for url in urls),
                frames=1000 if molecule == "ethanol" else None,
            )


_MD22_MOLECULES = {
    "Ac-Ala3-NHMe": (85_109, "HCNO"),
    "DHA": (69_753, "HCO"),
    "stachyose": (27_272, "HCO"),
    "AT-AT": (20_001, "HCNO"),
    "AT-AT-CG-CG": (10_153, "HCNO"),
    "buckyball-catcher": (6_102, "HC"),
    "double-walled_nanotube": (5_032, "HC"),
}


def _md22() -> Iterator[NamedSet]:
    for molecule, (frames, elements) in _MD22_MOLECULES.items():
        urls = (
            f"https://www.quantum-machine.org/gdml/repo/datasets/md22_{molecule}.npz",
            f"https://sgdml.org/secure_proxy.php?file=repo/datasets/md22_{molecule}.npz",
        )
        yield NamedSet(
            name=f"md22_{molecule}",
            elements=tuple(elements),
            level="PBE+MBD",
            licence=NOT_STATED,
            citation="Chmiela et al., Sci. Adv. 9, eadf0873 (2023)",
            layout="npz-sgdml",
            sources=tuple(Remote(url) for url in urls),
            frames=frames,
        )


# The commit is the version: a URL of the branch would follow whatever is pushed next.
_BOTNET_COMMIT = "29e6d467317e4b5967b7ea5cbee54de953fa0d45"
_BOTNET = f"https://raw.githubusercontent.com/davkovacs/BOTNet-datasets/{_BOTNET_COMMIT}"
_THREE_BPA_FILES: dict[str, tuple[int | None, int | None]] = {  # frames, bytes
    "train_300K": (500, 1_504_880),
    "train_mixedT": (500, 1_504_818),
    "test_300K": (1669, 5_023_260),  # counts from the size of a frame in train_300K
    "test_600K": (2138, 6_434_399),
    "test_1200K": (2139, 6_437_539),
    "test_dih": (None, None),
}
_THREE_BPA_SCANS: dict[str, int | None] = {"beta120": None, "beta150": 2350, "beta180": None}


def _three_bpa() -> Iterator[NamedSet]:
    def entry(name: str, source: Remote, frames: int | None) -> NamedSet:
        return NamedSet(
            name=f"3bpa_{name}",
            elements=("H", "C", "N", "O"),
            level="ωB97X/6-31G(d)",
            licence="MIT",
            citation="Kovács et al., J. Chem. Theory Comput. 17, 7696 (2021)",
            layout="extxyz",
            sources=(source,),
            frames=frames,
        )

    for name, (frames, size) in _THREE_BPA_FILES.items():
        yield entry(name, Remote(f"{_BOTNET}/dataset_3BPA/{name}.xyz", size=size), frames)
    isolated = Remote(f"{_BOTNET}/dataset_3BPA/iso_atoms.xyz", size=504)
    yield entry("isolated_atoms", isolated, 4)
    archive = "https://github.com/davkovacs/BOTNet-datasets/raw/refs/heads/main/dataset_3BPA.tar.gz"
    for beta, frames in _THREE_BPA_SCANS.items():
        member = f"dataset_3BPA/test_dih_{beta}.xyz"
        yield entry(f"test_dih_{beta}", Remote(archive, member=member), frames)


_ACAC_FILES: dict[str, tuple[int | None, int | None]] = {  # frames, bytes
    "train_300K": (500, None),
    "train_600K": (500, 880_112),
    "test_MD_300K": (None, None),
    "test_MD_600K": (None, None),
    "test_dihedral": (45, 43_974),
    "test_H_transfer": (15, 14_306),
    "isolated_atoms": (3, 455),
}


def _acac() -> Iterator[NamedSet]:
    for name, (frames, size) in _ACAC_FILES.items():
        yield NamedSet(
            name=f"acac_{name}",
            elements=("H", "C", "O"),
            level="UHF-PBE-D3/def2-SVP",
            licence="MIT",
            citation="Batatia et al., arXiv:2205.06643 (2022)",
            layout="extxyz",
            sources=(Remote(f"{_BOTNET}/dataset_acac/{name}.xyz", size=size),),
            frames=frames,
        )


def _water() -> Iterator[NamedSet]:
    record = "https://archive.materialscloud.org/api/records/eg3pn-1fw83/files"
    yield NamedSet(
        name="water_revPBE0-D3",
        elements=("H", "O"),
        level="revPBE0-D3",
        licence="CC-BY-4.0",
        citation="Cheng et al., Proc. Natl. Acad. Sci. 116, 1110 (2019)",
        layout="extxyz-atomic-units",
        sources=(
            Remote(
                f"{record}/training-set.zip/content",
                "md5:8cf0da8a72ddcb778529d2869990a53c",
                member="training-set/dataset_1593.xyz",
            ),
        ),
        frames=1593,
    )


_MLEARN_FRAMES: dict[str, tuple[int | None, int | None]] = {  # training, test
    "Cu": (262, 31),
    "Ge": (None, None),
    "Li": (None, None),
    "Mo": (194, 23),
    "Ni": (None, None),
    "Si": (214, 25),
}


def _mlearn() -> Iterator[NamedSet]:
    base = "https://raw.githubusercontent.com/materialsvirtuallab/mlearn/master/data"
    for element, counts in _MLEARN_FRAMES.items():
        for part, file, frames in zip(("train", "test"), ("training", "test"), counts, strict=True):
            yield NamedSet(
                name=f"mlearn_{element}_{part}",
                elements=(element,),
                level="PBE",
                licence="BSD-3-Clause",
                citation="Zuo et al., J. Phys. Chem. A 124, 731 (2020)",
                layout="json-mlearn",
                sources=(Remote(f"{base}/{element}/{file}.json"),),
                frames=frames,
            )


_TM23_ELEMENTS = (
    *("Ag", "Au", "Cd", "Co", "Cr", "Cu", "Fe", "Hf", "Hg", "Ir", "Mn", "Mo", "Nb", "Ni"),
    *("Os", "Pd", "Pt", "Re", "Rh", "Ru", "Ta", "Tc", "Ti", "V", "W", "Zn", "Zr"),
)


def _tm23() -> Iterator[NamedSet]:
    """Cold, warm and molten frames together; all elements lie in one archive of some 900 MB."""
    record = "https://archive.materialscloud.org/records/tcrks-ymp88/files"
    url = f"{record}/benchmarking_master_collection-20240316T202423Z-001.zip?download=1"
    archive = Remote(url, "md5:52b2c471591c8a8a88717f3fbdff6e37", size=893 * 2**20)
    for element in _TM23_ELEMENTS:
        for part, frames in (("train", 2700), ("test", 300)):
            member = f"benchmarking_master_collection/{element}_2700cwm_{part}.xyz"
            yield NamedSet(
                name=f"tm23_{element}_{part}",
                elements=(element,),
                level="PBE, not spin-polarised",
                licence="see materialscloud:2024.48",
                citation="Owen et al., npj Comput. Mater. 10, 92 (2024)",
                layout="extxyz",
                sources=(replace(archive, member=member),),
                frames=frames,
            )
