"""How the paths of a convolution are shared out among the functions of its Triton kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from nequip.kernels.tensor_product.layout import PathLayout, path_layouts
from nequip.kernels.tensor_product.spec import TensorProductSpec
from nequip.o3 import Block


@dataclass(frozen=True)
class Member:
    """Some paths of one input block."""

    block: Block
    paths: tuple[PathLayout, ...]

    @property
    def pattern(self) -> tuple[object, ...]:
        """What one function can serve: all of a member but its first columns."""
        paths = [(path.harmonic, path.path.irrep_out.l, path.stride) for path in self.paths]
        return (self.block.mul, self.block.irrep.l, *paths)


@dataclass(frozen=True)
class Group:
    """One or two members of one pattern (two parities, mostly), computed by one function.

    Columns are text: with two members, an expression in `twin`, the member (0 or 1) that is computed.
    """

    members: tuple[Member, ...]

    @property
    def mul(self) -> int:
        return self.members[0].block.mul

    @property
    def components_in(self) -> range:
        return range(self.members[0].block.irrep.dim)

    @property
    def paths(self) -> tuple[PathLayout, ...]:
        return self.members[0].paths

    @property
    def harmonics(self) -> list[int]:
        """Components of the harmonics that the paths read."""
        return sorted({path.harmonic + j for path in self.paths for j in path.harmonics})

    @property
    def column_in(self) -> str:
        """Column of the first feature."""
        return self._column(lambda member: member.block.offset)

    def column_weight(self, path: int) -> str:
        """Column of the first weight of a path."""
        return self._column(lambda member: member.paths[path].weight)

    def column_out(self, path: int) -> str:
        """Column of the first output of a path."""
        return self._column(lambda member: member.paths[path].out)

    def _column(self, of: Callable[[Member], int]) -> str:
        first, last = of(self.members[0]), of(self.members[-1])
        return f"{first}" if first == last else f"({first} + twin * {last - first})"


def plan(spec: TensorProductSpec, max_components: int | None) -> list[Group]:
    """Groups of all paths, and of every input block even where it leads nowhere.

    Args:
        max_components: of the output, in one member; None keeps the paths of a block together.
    """
    alike: dict[tuple[object, ...], list[Member]] = {}
    layouts = path_layouts(spec)
    for index, block in enumerate(spec.irreps_in.blocks()):
        paths = [layout for layout in layouts if layout.path.block_in == index]
        for some in _split(paths, max_components):
            member = Member(block, tuple(some))
            alike.setdefault(member.pattern, []).append(member)
    return [Group(tuple(same[n : n + 2])) for same in alike.values() for n in range(0, len(same), 2)]


def _split(paths: Sequence[PathLayout], max_components: int | None) -> Iterator[list[PathLayout]]:
    some: list[PathLayout] = []
    for path in paths:
        components = sum(other.path.irrep_out.dim for other in [*some, path])
        if some and max_components is not None and components > max_components:
            yield some
            some = []
        some.append(path)
    yield some
