"""What a run is told: Hydra composes it from YAML and words, pydantic validates it."""
