"""What people and models wrote, as HTML that cannot do anything: Markdown, code and LaTeX (as MathML).

Markdown is read with raw HTML switched off, and what comes out is cleaned against a list of allowed tags all the same. No
script, style, event handler, form, frame or remote image survives; links are shown as text. Very long texts are shown plain.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Sequence
from typing import Any

import nh3
from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from rlhf_core.ui.formulas import pieces

PLAIN_FROM_CHARS = 100_000
SHOWN_CHARS = 400_000
MAX_MARKS = 3_000  # bars and brackets in one text: more are huge tables, or made to keep a reader busy
_MATHML = {
    "math", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "mfrac", "msqrt", "mroot", "mstyle", "merror", "mpadded",
    "mphantom", "msub", "msup", "msubsup", "munder", "mover", "munderover", "mmultiscripts", "mprescripts", "none", "mtable",
    "mtr", "mtd", "menclose",
}  # fmt: skip
_TAGS = {
    "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong", "s",
    "table", "thead", "tbody", "tr", "th", "td", "span", "div",
} | _MATHML  # fmt: skip
_ATTRIBUTES = {
    "ol": {"start"},
    "math": {"display"},
    "mo": {
        "stretchy",
        "fence",
        "separator",
        "form",
        "lspace",
        "rspace",
        "movablelimits",
        "maxsize",
        "minsize",
        "largeop",
        "symmetric",
    },
    "mi": {"mathvariant"},
    "mstyle": {"displaystyle", "scriptlevel"},
    "mspace": {"width", "linebreak"},
    "mfrac": {"linethickness"},
    "mtd": {"columnalign"},
    "mtable": {"columnalign", "rowspacing", "columnspacing"},
    "menclose": {"notation"},
    "mover": {"accent"},
    "munder": {"accentunder"},
    "span": {"class"},
    "div": {"class"},
    "pre": {"class"},
}


def _formula(tex: str, *, display: bool) -> str:
    """MathML; what cannot be read stays as it was written."""
    try:
        return convert(tex, display="block" if display else "inline")
    except Exception:  # the library raises whatever its parser meets; the text itself is the honest answer
        return f"<code>{html.escape(tex)}</code>"


_HELD = re.compile("\ue000([0-9]+)\ue001")


def _hold_formulas(text: str) -> tuple[str, list[str]]:
    """Take formulas out, so that Markdown does not read them."""
    formulas: list[str] = []
    parts: list[str] = []
    for kind, part in pieces(text.replace("\ue000", "").replace("\ue001", "")):
        if kind in ("inline", "display"):
            parts.append(f"\ue000{len(formulas)}\ue001")
            formulas.append(_formula(part, display=kind == "display"))
        else:
            parts.append(part)
    return "".join(parts), formulas


def _image(_self: RendererHTML, tokens: Sequence[Token], index: int, _options: Any, _env: Any) -> str:
    """Never fetched: an image on somebody's server tells them who reads this."""
    return f'<span class="left-out">[image: {html.escape(tokens[index].content or "without a description")}]</span>'


@functools.cache
def _reader() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False, "linkify": False, "maxNesting": 20}).enable(["table", "strikethrough"])
    reader.add_render_rule("image", _image)
    return reader


def _plain(text: str) -> str:
    rest = f"\n… {len(text) - SHOWN_CHARS:,} more characters are not shown" if len(text) > SHOWN_CHARS else ""
    return f'<pre class="plain">{html.escape(text[:SHOWN_CHARS] + rest)}</pre>'


@functools.lru_cache(maxsize=4096)
def safe_html(text: str) -> str:
    """Markdown with LaTeX as HTML that may be put into a page as it is."""
    if len(text) > PLAIN_FROM_CHARS or text.count("|") + text.count("[") > MAX_MARKS:
        return _plain(text)
    held, formulas = _hold_formulas(text)
    drawn = _HELD.sub(lambda match: formulas[int(match[1])], _reader().render(held))
    return nh3.clean(
        drawn, tags=_TAGS, attributes=_ATTRIBUTES, link_rel=None, strip_comments=True, clean_content_tags={"script", "style"},
        url_schemes=set(),
    )  # fmt: skip
