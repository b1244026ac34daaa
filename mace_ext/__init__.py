"""MACE inside the framework."""
