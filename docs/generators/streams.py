"""What a cell prints, in one piece.

`%%bash` hands on what a command prints in chunks of 100 bytes, and myst-nb ends every chunk with a newline.
"""

from __future__ import annotations

from typing import Any

from myst_nb.core import render
from nbformat import NotebookNode
from sphinx.application import Sphinx


def join_chunks(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs with the chunks of each stream joined where its first one stands."""
    joined: list[NotebookNode] = []
    streams: dict[str, NotebookNode] = {}
    for output in outputs:
        name = output.get("name") if output["output_type"] == "stream" else None
        if name in streams:
            streams[name]["text"] += output["text"]
        else:
            joined.append(output)
            if name is not None:
                streams[name] = output
    return joined


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    assert hasattr(render, "coalesce_streams")
    render.coalesce_streams = join_chunks
    return {"parallel_read_safe": True}
