"""What the authors of published files say of them, by the hash of a file: no format has a place for it."""

from __future__ import annotations

from typing import NamedTuple


class Facts(NamedTuple):
    """What goes into the card."""

    licence: str = ""
    functional: str = ""


_MATERIALS_PROJECT = Facts(licence="MIT", functional="PBE and PBE+U (Materials Project, MPtrj)")

# By SHA-256: the checkpoints in the wheel sevenn 0.13.0, and the two of Nequix.
KNOWN: dict[str, Facts] = {
    # SevenNet-0, 11 July and 22 May 2024
    "7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36": _MATERIALS_PROJECT,
    "5d389fafd512e6ae2830d74d0b66ffc49a55d3832653ff8e7bf7f1343013c1d1": _MATERIALS_PROJECT,
    # SevenNet-l3i5
    "a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d": _MATERIALS_PROJECT,
    # nequix-mp-1 and nequix-mp-1-pft
    "1647af8e627e1afa11e2bfadeab0797326513a521afd7dd01606a96f56783eee": _MATERIALS_PROJECT,
    "a88aeaed71fd447572dc57af21d469207d7737b85a6dbb66f8c38156f175c5f1": _MATERIALS_PROJECT,
}
