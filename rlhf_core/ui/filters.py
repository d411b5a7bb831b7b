"""The explore page's filter in the address: what is shown can be sent to somebody as a link."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import fields, replace
from datetime import date
from typing import Any

import streamlit as st

from rlhf_core.services.exploring import Filter, Parts
from rlhf_core.ui import keys
from rlhf_core.ui.texts import plain

_MANY = {"sources": "source", "models": "model", "raters": "rater", "scores": "score", "steps": "step"}
_ONE = ("since", "until", "words")
NAMES = {
    "sources": "source",
    "models": "model",
    "raters": "rater",
    "scores": "stars",
    "steps": "step",
    "since": "from",
    "until": "to",
    "words": "question has",
}


def read() -> Filter:
    """The filter that the address says; what cannot be is left out, and said on the page."""
    params = st.query_params
    found: dict[str, Any] = {field: tuple(dict.fromkeys(params.get_all(name))) for field, name in _MANY.items()}
    odd: list[str] = []
    for field in ("scores", "steps"):
        numbers = [one for one in found[field] if one.isascii() and one.isdigit() and len(one) < 5]
        odd += [f"{_MANY[field]} {one}" for one in found[field] if one not in numbers]
        found[field] = tuple(map(int, numbers))
    for name in ("since", "until"):
        if name in params:
            try:
                found[name] = date.fromisoformat(params[name]).isoformat()
            except ValueError:
                odd.append(f"{name} {params[name]}")
    if odd:
        st.warning(
            f"The address asks for {plain(', '.join(odd))}, which cannot be: left out of the filter.", icon=":material/warning:"
        )
    return Filter(**found, words=params.get("words") or None, demo=params.get("demo") != "0")


def write(only: Filter) -> None:
    for field, name in _MANY.items():
        values = [str(one) for one in getattr(only, field)]
        if values:
            st.query_params[name] = values
        elif name in st.query_params:
            del st.query_params[name]
    for name in _ONE:
        if getattr(only, name):
            st.query_params[name] = getattr(only, name)
        elif name in st.query_params:
            del st.query_params[name]
    if not only.demo:
        st.query_params["demo"] = "0"
    elif "demo" in st.query_params:
        del st.query_params["demo"]
    if keys.URL_AT in st.query_params:
        del st.query_params[keys.URL_AT]


def changed(only: Filter, field: str, value: Any) -> Filter:
    """The filter with one of its rules changed."""
    return replace(only, **{field: value})


def rules(only: Filter) -> list[tuple[str, Any, str]]:
    """Each rule of the filter: field, value, words."""
    found: list[tuple[str, Any, str]] = []
    for field in (one.name for one in fields(Filter)):
        value = getattr(only, field)
        if field == "demo":
            if not value:
                found.append((field, True, "without demo raters"))
        elif isinstance(value, tuple):
            for one in value:
                words = "whole answer" if field == "steps" and one == 0 else f"{NAMES[field]} {one or '(not said)'}"
                found.append((field, one, words))
        elif value:
            found.append((field, None, f"{NAMES[field]} {value}"))
    return found


def form(only: Filter, parts: Parts) -> Filter | None:
    """The filter to fill in; None until somebody applies it."""

    def known(chosen: Iterable[Any], choices: Container[Any]) -> list[Any]:
        return [one for one in chosen if one in choices]

    steps_there = range(parts.longest + 1)
    with st.form("explore:filter", border=True):
        left, right = st.columns(2)
        sources = left.multiselect("Source", parts.sources, known(only.sources, parts.sources))
        models = right.multiselect(
            "Model", parts.models, known(only.models, parts.models), format_func=lambda one: one or "(not said)"
        )
        raters = left.multiselect("Rater", parts.raters, known(only.raters, parts.raters))
        steps = right.multiselect("Step (0: the whole answer)", steps_there, known(only.steps, steps_there))
        scores = left.multiselect("Stars", range(1, 6), known(only.scores, range(1, 6)))
        words = right.text_input("The question contains", only.words or "")
        since = left.date_input("First rated from", date.fromisoformat(only.since) if only.since else None)
        until = right.date_input("to", date.fromisoformat(only.until) if only.until else None)
        demo = st.checkbox("Count the demo set's fictional raters", only.demo)
        if not st.form_submit_button("Apply", type="primary"):
            return None
    first, last = (one.isoformat() if isinstance(one, date) else None for one in (since, until))
    many = {"sources": tuple(sources), "models": tuple(models), "raters": tuple(raters)}
    return Filter(
        **many, scores=tuple(scores), steps=tuple(steps), since=first, until=last, words=words.strip() or None, demo=demo
    )
