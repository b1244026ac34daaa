"""The version of the distribution `e3forge`."""

VERSION = "0.1.0"
