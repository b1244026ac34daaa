"""One HTML page that needs nothing beside it: styles inside, images embedded, no scripts."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

from nequip.plotting.style import Plot

STYLE = """
:root { --ink: #1f2328; --soft: #59636e; --line: #d9dee3; --tint: #f5f7f9; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 72rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .4rem 0; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .8rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .5rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); }
a { color: var(--accent); }
.numbers, .figures { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; }
.number { flex: 0 1 11rem; background: var(--tint); border-radius: .5rem; padding: .7rem .9rem; }
.number b { display: block; font-size: 1.7rem; line-height: 1.25; font-weight: 650; }
.number span { color: var(--soft); font-size: .85rem; }
figure { flex: 1 1 19rem; max-width: 27rem; margin: 0; }
figure img { width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: .85rem; padding: 0 .5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
thead th { font-weight: 600; white-space: normal; vertical-align: bottom; min-width: 5.5rem; }
th:first-child { text-align: left; padding-left: 0; position: sticky; left: 0; background: #fff; }
tbody th { font-weight: 400; } tbody tr:hover > * { background: var(--tint); }
details { margin: .8rem 0; } summary { cursor: pointer; color: var(--accent); }
pre { background: var(--tint); border-radius: .5rem; padding: .8rem; overflow-x: auto; font-size: .8rem;
  line-height: 1.45; }
@media print { details { display: block; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""


def page(title: str, body: Iterable[str]) -> str:
    """A whole document; `body` is HTML, `title` plain text."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def heading(level: int, text: str) -> str:
    """A heading."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    """A paragraph of words that explain."""
    return f'<p class="soft">{escape(text)}</p>'


def link(target: str, text: str) -> str:
    """A paragraph with a link to a file beside the page."""
    return f'<p><a href="{escape(target, quote=True)}">{escape(text)}</a></p>'


def numbers(values: Iterable[tuple[str, str]]) -> str:
    """Large numbers, each with the words that say what it is."""
    cells = "".join(
        f'<div class="number"><b>{escape(value)}</b><span>{escape(words)}</span></div>'
        for value, words in values
    )
    return f'<div class="numbers">{cells}</div>'


def figures(plots: Iterable[Plot]) -> str:
    """Plots side by side where there is room, one below the other on a phone."""
    cells = "".join(
        f'<figure><img alt="{escape(plot.caption, quote=True)}" '
        f'src="data:image/png;base64,{b64encode(plot.png).decode()}">'
        f"<figcaption>{escape(plot.caption)}</figcaption></figure>"
        for plot in plots
    )
    return f'<div class="figures">{cells}</div>'


def table(headings: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """Text to the left in the first column, numbers to the right in the others."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in headings)
    body = "".join(
        f"<tr><th>{escape(first)}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def folded(summary: str, text: str) -> str:
    """Text that is shown on a click."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"
