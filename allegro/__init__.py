"""Allegro: the strictly local model."""
