"""What happens around training: records, progress, checkpoints, stopping."""
