r"""Whatever a model wrote is shown and cannot do anything."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest

from rlhf_core.ui.render import _ATTRIBUTES, _TAGS, PLAIN_FROM_CHARS, SHOWN_CHARS, safe_html

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "[click](javascript:alert(1)) <javascript:alert(1)> [a](data:text/html,x)",
    "![pixel](http://tracker.example/p.png)",
    "<style>body{display:none}</style><link rel=stylesheet href=//x>",
    '<iframe src="//x"></iframe><object data=x></object><form action=//x><input autofocus onfocus=alert(1)>',
    "$\\href{javascript:alert(1)}{x}$ $\\text{<script>alert(1)</script>}$ \\(\\style{color:red}{x}\\)",
    "```html\n<script>alert(1)</script>\n```",
    '| a | b |\n| - | - |\n| <b onclick="alert(1)">x</b> | `<i>` |',
    "<!-- <script> --> --!> <![CDATA[<script>alert(1)</script>]]>",
    '<a href="https://example.org" target=_blank onmouseover=alert(1)>x</a>',
    "\\(<img src=x onerror=alert(1)>\\) \\[</math><script>alert(1)</script>\\]",
    "&lt;script&gt;alert(1)&lt;/script&gt; &#60;script&#62;",
]


class Reader(HTMLParser):
    """Collects what a browser would make of it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.words += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(safe_html(text))
    return reader


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_model_wrote_can_run(text: str) -> None:
    for tag, attributes in read(text).tags:
        assert tag in _TAGS, tag
        for name, value in attributes:
            assert name in _ATTRIBUTES.get(tag, set()), (tag, name)
            assert not re.search(r"javascript|data:|//", value or ""), value


@pytest.mark.parametrize("text", HOSTILE[:2] + HOSTILE[8:9])
def test_it_is_shown_as_it_was_written(text: str) -> None:
    assert "alert(1)" in read(text).words
    assert "<" in read(text).words


@pytest.mark.parametrize(
    ("text", "tags", "words"),
    [
        (r"so \(x^2 < 3\) holds", {"math", "msup"}, "so x2<3 holds"),
        (r"in a line \[ \frac{1}{2} \] and on", {"math", "mfrac"}, "in a line 12 and on"),
        ("\\[\n\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}\n\\]", {"math", "mtable", "mtd"}, "(1234)"),
        ("$$\\sum_{i=1}^n i$$", {"math", "munderover"}, "∑i=1ni"),
        ("$y_1$ costs $5 or $10", {"math", "msub"}, "y1 costs $5 or $10"),
        ("a `$x$` b", {"code"}, "a $x$ b"),
        ("it costs $5 and $10, or 5$ and 10$", {"p"}, "it costs $5 and $10, or 5$ and 10$"),
        ("\\[\n a = b \\\\\n - c\n\\]\nand *on*", {"math", "em"}, "a=b−cand on"),
        ("```\n$$ x $$\n\\( y \\)\n```", {"code"}, "$$ x $$\n\\( y \\)\n"),
        ("\\$5 is \\*not\\* math$", {"p"}, "$5 is *not* math$"),
        ("```python\nx = [1]\n```", {"pre", "code"}, "x = [1]\n"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", {"table", "td"}, "ab12"),
        ("1. one\n2. **two**", {"ol", "li", "strong"}, "onetwo"),
        ("array[0] and f(x) \\ end", {"p"}, "array[0] and f(x) \\ end"),
        ("مرحبا שלום 🌞", {"p"}, "مرحبا שלום 🌞"),
    ],
)
def test_markdown_code_and_formulas(text: str, tags: set[str], words: str) -> None:
    found = read(text)
    assert tags <= {tag for tag, _ in found.tags}
    assert re.sub(r"\s", "", found.words) == re.sub(r"\s", "", words)


def test_a_formula_that_cannot_be_read_stays_as_written() -> None:
    assert "\\root{4}{5}+1)(\\ro" in read(r"\( x = \frac{4}{(\sqrt{5}+1)(\root{4}{5}+1)(\ro \)").words


@pytest.mark.parametrize("text", ["", " \n\t", "x" * 10, "\x00", "\ud800"])
def test_odd_texts(text: str) -> None:
    assert safe_html(text.encode("utf-8", "replace").decode()) is not None


@pytest.mark.slow
def test_huge_texts_stay_small_and_plain() -> None:
    begun = time.perf_counter()
    long = safe_html("word <b> " * 120_000)
    assert len(long) < SHOWN_CHARS * 2
    assert "more characters are not shown" in long
    assert safe_html("|a" * 5000).startswith("<pre")
    assert "<b>" not in long
    assert safe_html("> " * 5_000 + "deep")
    assert safe_html("[" * 50_000)
    assert safe_html("$" * 50_000)
    assert safe_html("\\(" * 40_000)
    assert safe_html("*a **b " * 10_000)
    assert len(safe_html("# x\n" * (PLAIN_FROM_CHARS // 5))) > 0
    assert time.perf_counter() - begun < 60, "no text may hang a page"
