"""The operations that decide the speed of every model: tensors and specs in, tensors out."""
