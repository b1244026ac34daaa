"""The command line: `nequip COMMAND`, and each command under a dashed name of its own."""
