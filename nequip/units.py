"""Units and sign conventions, stated once. Every number in the framework follows them.

- Lengths in Å, energies in eV, forces in eV/Å, stress in eV/Å³, masses in amu.
- `center` i, `neighbor` j, edge vector `r_ij = r_j - r_i + S @ cell`; rows of `cell` are lattice vectors.
- With a symmetric strain ε applied to positions and cell: `F = -∂E/∂r`, `virial = -∂E/∂ε` (eV),
  `stress = (∂E/∂ε) / |V|`: positive under tension, the sign of ASE. Without a cell it is NaN.
"""

from __future__ import annotations

# e²/(4πε₀) in eV·Å, the value that LAMMPS `pair zbl` uses in metal units.
COULOMB_CONSTANT = 14.399645

MEV = 1000.0  # meV per eV

# √(eV Å⁻² amu⁻¹) / 2π in THz and in cm⁻¹ (CODATA 2018): frequencies of vibrations.
THZ = 15.633304
INVERSE_CM = 521.470898
