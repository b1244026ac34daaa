"""Training on Lightning: nothing outside this package imports lightning."""
