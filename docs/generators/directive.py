"""Pages that are read out of the code, so that they cannot drift: the directive `generated`.

    ```{generated} configuration
    ```

The argument names one of `PAGES`, a function without arguments that returns Markdown.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from generators.benchmarks import benchmark_tables
from generators.commands import help_texts
from generators.configuration import allegro_preset_table, key_tables, preset_table
from generators.data import label_table, set_table
from generators.docstrings import complete_docstring, shorten_signature, skip_fields

PAGES = {
    "benchmarks": benchmark_tables,
    "command-line": help_texts,
    "configuration": key_tables,
    "label-keys": label_table,
    "named-sets": set_table,
    "presets": preset_table,
    "allegro-presets": allegro_preset_table,
}


class Generated(SphinxDirective):
    """Parses what a function of `PAGES` writes."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(PAGES[self.arguments[0]](), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("generated", Generated)
    app.connect("autodoc-process-docstring", complete_docstring)
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("autodoc-skip-member", skip_fields)
    return {"parallel_read_safe": True}
