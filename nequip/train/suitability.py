"""Whether a potential can be trained on a loss, told before anything is computed."""

from __future__ import annotations

from nequip.config.schema import TrainConfig
from nequip.errors import ConfigError
from nequip.model.potential import Potential
from nequip.train.loss import Loss

# Their second derivatives are zero or jump.
ROUGH = ("relu", "elu", "abs")
LEAST_CUTOFF_P = 3  # for a third derivative that does not jump at the cutoff


def check_suitable(potential: Potential, loss: Loss, config: TrainConfig) -> None:
    """Raises ConfigError for terms of the loss that the potential has nothing to say about."""
    _check_field(potential, loss, config)
    _check_smooth(potential, loss)


def _check_field(potential: Potential, loss: Loss, config: TrainConfig) -> None:
    if potential.field_readout is None and loss.needs_field:
        raise ConfigError(
            "train.loss has terms of an electric field, which this model does not know: set "
            "model.electric_field=true, or train.loss.dipole, polarizability and born_charges to null."
        )
    if potential.field_readout is not None and (config.compile or config.dens):
        key = "train.compile" if config.compile else "train.dens"
        raise ConfigError(f"{key} is for models without electric_field: leave one of the two out.")


def _check_smooth(potential: Potential, loss: Loss) -> None:
    """A step on second derivatives of the energy takes third ones."""
    terms = [name for name in ("hessian", "force_constants") if name in loss.terms]
    if not terms:
        return
    for key, value in potential.card.config.items():
        if key.endswith("nonlinearity") and value in ROUGH:
            raise ConfigError(
                f"train.loss.{terms[0]} needs a smooth energy, and model.{key} is {value!r}: take 'silu', or "
                f"set train.loss.{terms[0]} to null."
            )
        if key == "polynomial_cutoff_p" and value < LEAST_CUTOFF_P:
            raise ConfigError(
                f"train.loss.{terms[0]} needs three derivatives at the cutoff, and model.{key} is {value}: "
                f"take {LEAST_CUTOFF_P} or more, or set train.loss.{terms[0]} to null."
            )
