"""Structures and their labels: files, splits, neighbors, graphs, batches, statistics."""
