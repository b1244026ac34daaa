"""Files that PyTorch wrote, read as plain values: nothing named in them is imported, made or called."""

from nequip.interop.archives.pickled import Global, Record
from nequip.interop.archives.torch_file import describe_archive, read_program_values, read_torch_file

__all__ = ["Global", "Record", "describe_archive", "read_program_values", "read_torch_file"]
