"""See nequip.calculators.torchsim."""

from nequip.calculators.torchsim import NequIPTorchSimCalc

__all__ = ["NequIPTorchSimCalc"]
