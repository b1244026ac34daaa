"""Public data sets by name: `data.file: set:rmd17_ethanol` becomes the path of a local extxyz file.

`catalogue` states the facts, `download` fetches and verifies, `convert` turns what was published
into extxyz in eV and Å, `resolve` puts them together behind a cache.
"""

from nequip.data.named_sets.catalogue import NamedSet, Remote, published_sets
from nequip.data.named_sets.resolve import list_named_sets, resolve_named_set

__all__ = ["NamedSet", "Remote", "list_named_sets", "published_sets", "resolve_named_set"]
