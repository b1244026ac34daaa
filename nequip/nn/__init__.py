"""Layers: what architectures are put together from."""
