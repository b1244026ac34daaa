"""Potentials as files that run with no Python: what README.md describes."""
