"""Allegro satisfies what every potential must, in both embeddings, with both parities and with one."""

from __future__ import annotations

from allegro.config import AllegroConfig
from nequip.model.registry import build_potential
from nequip.testing import EnergyConformance, PotentialConformance


class TestBesselAndBothParities(PotentialConformance):
    def make_potential(self):
        config = AllegroConfig(
            type_names=("H", "C", "O"),
            r_max=4.0,
            per_edge_type_cutoff={"H": {"H": 2.5, "C": 3.0}, "O": 3.5},
            num_layers=3,
            l_max=2,
            num_scalar_features=6,
            num_tensor_features=3,
            bessel_trainable=True,
            avg_num_neighbors={"H": 4.0, "C": 9.0, "O": 7.0},
            per_type_energy_scales={"H": 0.5, "C": 1.5, "O": 1.0},
            per_type_energy_shifts={"H": -1.0, "C": -6.0, "O": -4.0},
            per_type_energy_shifts_trainable=True,
            pair_potential="zbl",
            dtype="float64",
        )
        return build_potential(config)


class TestSplinesAndOneParity(PotentialConformance):
    def make_potential(self):
        config = AllegroConfig(
            type_names=("Cu", "Au"),
            r_max=5.0,
            num_layers=2,
            l_max=1,
            parity=False,
            num_scalar_features=7,
            num_tensor_features=4,
            path_channel_coupling=False,
            radial_embedding="spline",
            num_splines=6,
            spline_span=4,
            latent_mlp_depth=2,
            readout_mlp_depth=0,
            avg_num_neighbors=12.0,
            per_type_energy_scales=None,
            per_type_energy_shifts=None,
            dtype="float64",
        )
        return build_potential(config)


class TestEnergiesOnly(EnergyConformance):
    def make_potential(self):
        config = AllegroConfig(
            type_names=("Si",),
            r_max=4.0,
            num_layers=1,
            l_max=1,
            num_scalar_features=4,
            num_tensor_features=4,
            avg_num_neighbors=10.0,
            per_type_energy_scales=None,
            per_type_energy_shifts=-5.0,
            energy_only=True,
            dtype="float64",
        )
        return build_potential(config)
