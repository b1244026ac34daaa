"""What a run is told: Hydra composes it from YAML and words, pydantic validates it."""

# Where named sets and neighbor lists lie if nothing else is said.
CACHE_DIR = "~/.cache/e3forge"
