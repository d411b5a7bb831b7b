r"""Texts of people and models on pages that read Markdown, in tables and in files for spreadsheets."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rlhf_core.ui.formulas import pieces
from rlhf_core.ui.tables import csv_of
from rlhf_core.ui.texts import PLAIN_FROM_CHARS, markdown_of, plain

IMAGES = [
    "![x](http://h/a.png)", r"\$![x](http://h/a.png?a=b)$", r"`$`![x](http://h/b.png?a=b)`$`", "`\n\n![x](http://h/c.png)\n\n`",
    r"\`![x](http://h/d.png)\`", "$![x](http://h/e.png)=$", "$$![x](http://h/f.png)$$", r"\(![x](http://h/g.png)\)",
    "![x][r]\n\n[r]: http://h/i.png", r"\[ ![x](http://h/h.png) \]", "~~~ ![x](http://h/j.png) ~~~", r"\\![x](http://h/k.png)",
    "$ `![x](http://h/l.png)` $", "!\\(a\\)[x](http://h/m.png)",
]  # fmt: skip
READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def images(text: str) -> list[str]:
    return [one.type for token in READER.parse(text) for one in token.children or [] if one.type == "image"]


@pytest.mark.parametrize("text", IMAGES)
def test_no_image_is_fetched(text: str) -> None:
    assert not images(markdown_of(text))
    assert not images(plain(text))


@given(st.text(alphabet="!$`\\[]()~\n ax_=:1", max_size=60))
def test_no_text_becomes_an_image(text: str) -> None:
    assert "![" not in markdown_of(text)
    assert not images(plain(text))


@given(st.text(max_size=200))
def test_a_plain_text_reads_as_it_was_written(text: str) -> None:
    words = " ".join(text.split())
    tokens = READER.parse(plain(words))
    read = "".join(one.content for token in tokens for one in token.children or [])
    assert read.split() == words.replace("\x00", "\ufffd").split()
    assert {token.type for token in tokens} <= {"paragraph_open", "inline", "paragraph_close"} or words[:1].isdigit()


def test_formulas_stay_and_money_is_none() -> None:
    assert markdown_of(r"so \(x^2\) and \[y\]: $5 to $7") == "so $x^2$ and $$y$$\\: \\$5 to \\$7"
    assert markdown_of("`a ![b](c)` :red[no]") == "`a !\u200b[b](c)` \\:red[no]"
    assert markdown_of("costs $20") == "costs \\$20"


@given(st.text(alphabet="$`\\[]()~\n ax_=1", max_size=80))
def test_pieces_are_the_whole_text(text: str) -> None:
    kept = "".join(part for kind, part in pieces(text) if kind in ("text", "code"))
    assert len(kept) <= len(text)
    assert not any(kind == "text" and not part for kind, part in pieces(text))
    if not any(kind in ("inline", "display") for kind, _ in pieces(text)):
        assert kept == text


@pytest.mark.parametrize("part", ["\\(", "\\[", "$", "$$", "`", "$a", "\\(a", "![", "~~~", "`$", "$ x=", "\\"])
def test_a_long_text_takes_no_long_time(part: str) -> None:
    """Each of these took minutes, or would, if a pass over the text began anew at each sign; pytest's limit says so."""
    text = part * (PLAIN_FROM_CHARS // len(part))
    assert markdown_of(text)
    assert markdown_of(part * 60_000)


def test_a_spreadsheet_finds_no_formula() -> None:
    frame = pd.DataFrame(
        {"text": ["=HYPERLINK(1)", "+1", "-2+3", "@SUM(1)", "\t=1", "fine", None, "a=1"], "n": [-1.5, 2, 3, 4, 5, 6, 7, 8]}
    )
    rows = list(csv.reader(io.StringIO(csv_of(frame).decode())))
    assert [row[0] for row in rows] == ["text", "'=HYPERLINK(1)", "'+1", "'-2+3", "'@SUM(1)", "'\t=1", "fine", "", "a=1"]
    assert rows[1][1] == "-1.5"  # a number is one
