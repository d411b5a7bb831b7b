"""Answers of an OpenAI-compatible server, token by token, by the ``openai`` client. Whatever goes wrong there is said plainly."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from rlhf_core.ground.errors import EndpointFailed, InvalidInput
from rlhf_core.ground.settings import EndpointSettings
from rlhf_core.ground.text import shorten, storable

if TYPE_CHECKING:
    import openai

CONNECT_TIMEOUT_S = 10.0
SILENCE_TIMEOUT_S = 60.0  # between two tokens, or before the first
RETRIES = 2  # by the client itself, with growing waits: lost connections, 408, 409, 429 and 5xx before the first token
TIMES_OVER = 2  # a server that goes on behind this many times the tokens that were asked for is hung up on


def stream(
    endpoint: EndpointSettings, query: str, *, max_tokens: int, temperature: float = 1.0, top_p: float = 1.0, seed: int = 0
) -> Generator[str, None, bool]:
    """One answer as it is written. Closing the generator hangs up.

    Args:
        endpoint: Who writes.
        query: The question, sent as the user's message.
        max_tokens: Of the answer.
        temperature, top_p, seed: Sent as they are; a server may know better.

    Yields:
        Text, as much as comes at once.

    Returns:
        Whether the model ended it itself; False where it had no tokens left.

    Raises:
        EndpointFailed: it does not answer, refuses, sends something else, or breaks off.
        InvalidInput: the question is too long for the model, or an option is out of its range.
    """
    import openai

    with _said_plainly(endpoint), openai.OpenAI(
        base_url=endpoint.base_url, api_key=endpoint.key or "none", max_retries=RETRIES,
        timeout=openai.Timeout(SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
    ) as client:  # fmt: skip
        raw = client.chat.completions.with_raw_response.create(
            model=endpoint.model, messages=[{"role": "user", "content": query}], stream=True, max_tokens=max_tokens,
            temperature=temperature, top_p=top_p, seed=seed,
        )  # fmt: skip
        kind = raw.headers.get("content-type", "").partition(";")[0]
        if kind != "text/event-stream":
            raise EndpointFailed(
                f"{endpoint.base_url} answered with {kind or 'something unnamed'} and not with a stream of tokens. Is it the "
                "address of the API? It often ends in /v1."
            )
        pieces, begun = 0, time.monotonic()
        with raw.parse() as chunks:
            for chunk in chunks:
                text, end = _parts(endpoint, chunk)
                if text:
                    pieces += 1
                    yield storable(text)
                if end:
                    return end != "length"
                if pieces > TIMES_OVER * max_tokens:
                    return False
        raise EndpointFailed(
            f"{endpoint.name} broke off after {time.monotonic() - begun:.0f} s without saying that the answer is at its end. "
            "What came until then is kept; try again."
        )


def _parts(endpoint: EndpointSettings, chunk: Any) -> tuple[str, str]:
    """What a chunk adds to the answer, and why the answer ends with it. The client takes any JSON for a chunk.

    Raises:
        EndpointFailed: it is none.
    """
    choices = getattr(chunk, "choices", None)
    if not isinstance(choices, list):
        raise EndpointFailed(
            f"{endpoint.name} ({endpoint.base_url}) sent something that is no part of an answer: {_words(endpoint, str(chunk))}"
        )
    if not choices:  # counts of tokens, behind the answer
        return "", ""
    text, end = getattr(getattr(choices[0], "delta", None), "content", None), getattr(choices[0], "finish_reason", None)
    return (text if isinstance(text, str) else ""), (end if isinstance(end, str) else "")


@contextlib.contextmanager
def _said_plainly(endpoint: EndpointSettings) -> Iterator[None]:
    """
    Raises:
        EndpointFailed, InvalidInput: for whatever the client raises.
    """
    import httpx
    import openai

    name, where = endpoint.name, endpoint.base_url
    try:
        yield
    except (openai.APITimeoutError, httpx.TimeoutException) as error:
        raise EndpointFailed(
            f"{name} was silent for {SILENCE_TIMEOUT_S:.0f} s ({where}). It may be loading the model or busy; try again later."
        ) from error
    except openai.APIStatusError as error:
        raise _refused(endpoint, error) from error
    except (openai.APIConnectionError, httpx.HTTPError) as error:
        cause = str(error.__cause__ or error) or type(error).__name__
        raise EndpointFailed(f"The line to {name} ({where}) does not stand: {cause}. Is the server running?") from error
    except openai.APIError as error:  # said within the stream
        raise EndpointFailed(f"{name} broke off: {_words(endpoint, str(error))}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise EndpointFailed(f"{name} ({where}) sent something that is no answer: {_words(endpoint, str(error))}") from error


def _refused(endpoint: EndpointSettings, error: openai.APIStatusError) -> EndpointFailed | InvalidInput:
    name, code, words = endpoint.name, error.status_code, _words(endpoint, error.message)
    if code in (401, 403):
        return EndpointFailed(
            f"{name} does not accept the key ({code}). The operator sets it under [endpoints.NAME] in .streamlit/secrets.toml, "
            "or as RLHF_ENDPOINT_KEY."
        )
    if code == 404:
        return EndpointFailed(
            f"{name} knows no model {endpoint.model!r} at {endpoint.base_url} (404). Check both; the address often ends in /v1."
        )
    if code == 429:
        wait = error.response.headers.get("retry-after", "")
        return EndpointFailed(f"{name} has had too many requests (429){f' and asks to wait {wait} s' if wait else ''}: {words}")
    if code in (400, 413, 422):
        return InvalidInput(f"{name} does not take this question ({code}): {words}")
    return EndpointFailed(f"{name} failed ({code}): {words} Try again later.")


def _words(endpoint: EndpointSettings, text: str) -> str:
    """What a server said, on one line, without the key."""
    text = text.replace(endpoint.key, "…") if endpoint.key else text
    return shorten(" ".join(text.split()), 300)
