"""What training draws anew of a frame in each epoch: noise on its positions, directions, waves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from nequip.data.force_constants import ComplexArray
from nequip.data.frame import FloatArray, Frame


@dataclass(frozen=True)
class Noise:
    """Displacements `σ ε`, ε normal, of a share of the atoms in a share of the frames.

    Only atoms with a force are displaced: it tells a model how to find its way back.
    Source: Liao, Smidt, Das, arXiv:2403.09549.
    """

    probability: float  # that a frame has displaced atoms
    ratio: float  # share of its atoms that are displaced
    sigma: tuple[float, float]  # Å; one σ for each frame, evenly on a scale of logarithms between the two

    def apply(self, frame: Frame, rng: np.random.Generator) -> tuple[Frame, FloatArray]:
        """The frame with its displacements, and ε [atom, 3]: NaN for atoms left alone.

        Energy and forces stay those of the frame as it was; all other labels are dropped where atoms move.
        """
        noise = np.full((frame.num_atoms, 3), np.nan)
        if frame.forces is None or rng.random() >= self.probability:
            return frame, noise
        chosen = (rng.random(frame.num_atoms) < self.ratio) & np.isfinite(frame.forces).all(1)
        sigma = np.exp(rng.uniform(*np.log(self.sigma)))
        epsilon = rng.normal(size=(frame.num_atoms, 3))
        if not chosen.any():
            return frame, noise
        noise[chosen] = epsilon[chosen]
        positions = frame.positions + np.where(chosen[:, None], sigma * epsilon, 0.0)
        moved = replace(frame, positions=positions, stress=None, hessian=None, force_constants=None)
        return replace(moved, dipole=None, polarizability=None, born_charges=None), noise


class Products(NamedTuple):
    """Directions without a unit, and the Hessian times each of them, eV/Å²: NaN without a Hessian."""

    directions: FloatArray  # [atom, direction, 3]
    values: FloatArray  # [atom, direction, 3]


@dataclass(frozen=True)
class Directions:
    """Unit vectors of the 3N dimensions of a frame: any, evenly, or those along one coordinate of one atom.

    Either way the mean square of the errors of products `H v` is that of the elements of H.
    """

    kind: Literal["random", "rows"]
    number: int  # for each frame; no coordinate comes twice before all have come

    def draw(self, frame: Frame, rng: np.random.Generator) -> Products:
        """Directions and products for one frame."""
        size = 3 * frame.num_atoms
        if self.kind == "random":
            vectors = rng.normal(size=(self.number, size))
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        else:
            rounds = -(-self.number // size)
            order = np.concatenate([rng.permutation(size) for _ in range(rounds)])
            vectors = np.eye(size)[order[: self.number]]
        values = np.full_like(vectors, np.nan) if frame.hessian is None else vectors @ frame.hessian
        return Products(self._by_atom(vectors), self._by_atom(values))

    def _by_atom(self, vectors: FloatArray) -> FloatArray:
        return np.ascontiguousarray(vectors.reshape(self.number, -1, 3).transpose(1, 0, 2))


class Responses(NamedTuple):
    """Waves without a unit, and what force constants make of them, eV/Å²: NaN without constants."""

    q: FloatArray  # [1, wave, 3] in units of the reciprocal lattice vectors
    patterns: FloatArray  # [atom, wave, 3, 2] real and imaginary parts of u in `u exp(2πi q·R)`
    values: FloatArray  # [atom, wave, 3, 2] those of `Φ(q) u`


@dataclass(frozen=True)
class Waves:
    """Waves that fit into the supercell of the constants, each as likely, in patterns without a preference.

    Patterns u are isotropic, |u|² = 2, so that the mean square of errors of real and imaginary parts of
    `Φ(q) u` is that of |ΔΦ|² over elements and waves. It is the mean of `|u₂† ΔΦ u|²` over isotropic u₂ as
    well, taken exactly: the product with u costs as much as one such number.
    Source: Fang, Geiger, Checkelsky, Smidt, arXiv:2403.11347.
    """

    number: int  # for each frame

    def draw(self, frame: Frame, rng: np.random.Generator) -> Responses:
        """Waves and responses for one frame."""
        parts = rng.normal(size=(self.number, 3 * frame.num_atoms, 2))
        u = parts[..., 0] + 1j * parts[..., 1]
        u *= np.sqrt(2) / np.linalg.norm(u, axis=1, keepdims=True)
        if frame.force_constants is None:
            nothing = np.zeros((self.number, 3)), np.zeros_like(u), np.full_like(u, complex(np.nan, np.nan))
            return self._by_atom(*nothing)
        q = rng.choice(frame.force_constants.waves(), self.number)
        values = [frame.force_constants.at(wave) @ pattern for wave, pattern in zip(q, u, strict=True)]
        return self._by_atom(q, u, np.array(values))

    def _by_atom(self, q: FloatArray, u: ComplexArray, values: ComplexArray) -> Responses:
        def arranged(rows: ComplexArray) -> FloatArray:
            by_atom = rows.reshape(self.number, -1, 3).transpose(1, 0, 2)
            return np.stack([by_atom.real, by_atom.imag], axis=-1)

        return Responses(q[None], arranged(u), arranged(values))


@dataclass(frozen=True)
class Draws:
    """All that is drawn, by `(seed, epoch, frame)` alone."""

    noise: Noise | None = None
    directions: Directions | None = None
    waves: Waves | None = None
    seed: int = 0

    def rng(self, epoch: int, index: int) -> np.random.Generator:
        """The random numbers of frame `index` of the source in `epoch`."""
        return np.random.default_rng((self.seed, epoch, index))
