"""The routes. Each is checked by its shape, asked of a service, and answered."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware.cors import CORSMiddleware

from rlhf_core import __version__
from rlhf_core.api import shapes
from rlhf_core.api.guard import PROBLEM, STRANGERS_PER_MINUTE, Caught, Limits, SizeLimit, say_problems
from rlhf_core.api.watching import Watch, Watched, request_log
from rlhf_core.ground.answers import Answer
from rlhf_core.ground.applications import Caller
from rlhf_core.ground.errors import Forbidden, SessionExpired, SignInRequired, StoreUnavailable
from rlhf_core.ground.rollout import ModelKind
from rlhf_core.intake.splitting import answer_of
from rlhf_core.services import collecting
from rlhf_core.services.workbench import Workbench

HERE = Path(__file__).parent
MOST_KNOWN = 10_000  # callers
# a page of people's own words, with their ticket: nothing from elsewhere, in no other page's frame
ALONE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
_WORDS = {
    400: "no JSON in UTF-8",
    401: "no good token or ticket",
    403: "not with this ticket",
    404: "no such thing here",
    409: "something else was sent under this id",
    413: "too large",
    422: "the request is not as it should be",
    429: "too many requests",
    503: "try again later",
}


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"description": _WORDS[status], "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
        for status in (400, 401, *statuses, 413, 422, 429, 503)
    }  # fmt: skip


def create(workbench: Callable[[], Workbench], logs: Path | None = None) -> FastAPI:
    """The ASGI app, to be mounted under ``/api``.

    Args:
        workbench: What requests are answered from.
        logs: The folder of the log of requests; None: there is none.
    """
    app = FastAPI(
        title="RLHF Workbench", version=__version__, docs_url=None, redoc_url=None,
        description="What the people of a chat application say of its answers comes in; rewards go out; everybody sees and "
        "erases their own.",
    )  # fmt: skip
    say_problems(app)
    app.add_middleware(Caught)
    app.add_middleware(SizeLimit)
    # any page may ask: what lets a request in is its token, and no browser sends that by itself
    app.add_middleware(
        CORSMiddleware, allow_origins=["*"], allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["Authorization", "Content-Type"], max_age=600,
    )  # fmt: skip
    watch = Watch()
    app.add_middleware(Watched, watch=watch, log=request_log(logs) if logs else logging.getLogger("rlhf_core.api.nowhere"))
    # threads of their own: erasures, which take long, hold no other request up, and a full house does not look like a dead one
    erasers, looks = CapacityLimiter(2), CapacityLimiter(2)
    limits, bearer = Limits(), HTTPBearer(auto_error=False, description="an application's token, or a person's ticket")

    # on the event loop: two reads of some 60 us, which wait for no writer, cost less than handing them to a thread
    async def caller(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> Caller:
        address = request.client.host if request.client else ""
        try:
            found = collecting.caller_of(workbench(), given.credentials if given else "")
        except SessionExpired:
            raise  # somebody we know, who asks for a fresh ticket now: no stranger
        except SignInRequired:
            limits.hit(STRANGERS_PER_MINUTE, "stranger", address)
            raise
        limits.caller(found)
        return found

    known: dict[str, Caller] = {}  # by the hash of what they sent; for those who ask what to use while the store is away

    async def caller_once_known(
        request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
    ) -> Caller:  # fmt: skip
        name = hashlib.sha256((given.credentials if given else "").encode("utf-8", "surrogatepass")).hexdigest()
        try:
            found = await caller(request, given)
        except StoreUnavailable:
            if name not in known:
                raise
            return known[name]
        except SignInRequired:
            known.pop(name, None)
            raise
        if len(known) >= MOST_KNOWN:
            known.clear()
        known[name] = found
        return found

    Asks = Annotated[Caller, Depends(caller)]  # noqa: N806  # a type
    AsksAnyway = Annotated[Caller, Depends(caller_once_known)]  # noqa: N806
    Whose = Annotated[  # noqa: N806
        shapes.Person | None, Query(alias="userId", description="whose, where an application asks with its token"),
    ]  # fmt: skip

    @app.post("/chats", status_code=201, responses=_refusals(403, 409))
    def send_chat(sent: shapes.ChatSent, asks: Asks) -> shapes.ChatKept:
        """Send a chat that the application had, with its reasoning steps. With an application's token only."""
        served = sent.served.model_dump() if sent.served else None
        return shapes.ChatKept(**collecting.add_chat(workbench(), asks, sent.id, sent.record(), sent.user_id, served))

    @app.get("/assignment", responses=_refusals(403))
    async def assign(asks: AsksAnyway, kind: ModelKind = "policy", user_id: Whose = None) -> shapes.AssignmentKept:
        """Which checkpoint answers a person: the same one each time, until it is taken back or serves everybody."""
        given = collecting.assignment(workbench(), asks, kind, user_id)
        return shapes.AssignmentKept(checkpoint=given.checkpoint, arm=given.arm)

    @app.post("/assistant/feedback", status_code=201, responses=_refusals(403, 404, 409))
    def send_feedback(sent: shapes.FeedbackSent, asks: Asks) -> shapes.FeedbackKept:
        """Say what a person thinks of a step or of the whole answer: by thumbs, or by stars."""
        kept = collecting.rate(
            workbench(), asks, sent.id, sent.place, sent.score, thumbs=sent.thumbs, comment=sent.comment, said_at=sent.said_at,
            external_id=sent.user_id,
        )  # fmt: skip
        return shapes.FeedbackKept(**kept)

    @app.post("/metrics/chat-feedback", status_code=201, responses=_refusals(403, 404, 409))
    def send_event(sent: shapes.EventSent, asks: Asks) -> shapes.EventKept:
        """Say what a person did with a step or an answer, which is a sign of what they think of it."""
        details = sent.details
        kept = collecting.signal(
            workbench(), asks, details.place, details.signal, details.value, request_id=details.id,
            said_at=sent.said_at, external_id=sent.user_id,
        )  # fmt: skip
        return shapes.EventKept(**kept)

    @app.post("/score", responses=_refusals(404))
    def score(sent: shapes.AnswerSent, _: Asks) -> shapes.Reward:
        """Predicted stars of an answer and of its steps."""
        text = sent.response if sent.response is not None else "\n\n".join(sent.steps or [])
        answer = Answer(sent.query, text, tuple(sent.steps)) if sent.steps else answer_of(sent.query, text)
        checkpoint, whole, steps = collecting.score(workbench(), answer, sent.checkpoint)
        return shapes.Reward(checkpoint=checkpoint, reward=whole, steps=steps)

    @app.post("/tickets", status_code=201, responses=_refusals(403))
    def make_ticket(sent: shapes.TicketAsked, asks: Asks) -> shapes.Ticket:
        """A ticket with which one person's browser may send feedback, and see and erase what is kept of them."""
        ticket, until = collecting.ticket(workbench(), asks, sent.user_id, sent.seconds)
        return shapes.Ticket(ticket=ticket, expires_at=until)

    @app.get("/me", responses=_refusals(403))
    def see(asks: Asks, user_id: Whose = None) -> shapes.Everything:
        """All that is kept of a person."""
        return shapes.Everything(tables=collecting.everything(workbench(), asks, user_id))

    @app.delete("/me", responses=_refusals(403))
    async def erase(asks: Asks, user_id: Whose = None) -> shapes.Erased:
        """Erase all that is kept of a person, from the store and from snapshots. It may be asked again."""
        done = await to_thread.run_sync(collecting.erase, workbench(), asks, user_id, limiter=erasers)
        return shapes.Erased(
            chats=done.chats, judgements=done.judgements, snapshots=[new for _, new in done.snapshots], runs=done.runs,
            checkpoints=done.checkpoints,
        )  # fmt: skip

    def consent_of(asks: Caller, said: Any) -> shapes.ConsentKept:
        return shapes.ConsentKept(
            consent=said.consent, version=said.version, at=said.at, asks=said.asks,
            current_version=asks.application.consent_version, words=asks.application.consent_words,
        )  # fmt: skip

    @app.get("/me/consent", responses=_refusals(403))
    def see_consent(asks: Asks, user_id: Whose = None) -> shapes.ConsentKept:
        """What a person agreed to, and the words by which they are to be asked."""
        return consent_of(asks, collecting.consent(workbench(), asks, user_id))

    @app.put("/me/consent", responses=_refusals(403))
    def say_consent(sent: shapes.ConsentSent, asks: Asks) -> shapes.ConsentKept:
        """Keep what a person answered: whether what they say may teach models and be analysed, from the next snapshot on."""
        return consent_of(asks, collecting.set_consent(workbench(), asks, sent.version, sent.consent, sent.user_id))

    @app.get("/health")
    async def health() -> shapes.Status:
        """The server runs."""
        return shapes.Status(status="ok")

    @app.get("/ready", responses={503: _refusals()[503]})
    async def ready() -> shapes.Status:
        """The store answers."""
        await to_thread.run_sync(collecting.ready, workbench(), limiter=looks)
        return shapes.Status(status="ok")

    @app.get("/metrics", response_class=PlainTextResponse, responses=_refusals(403))
    def metrics(asks: Asks) -> Response:
        """Figures of the server for Prometheus, asked with an application's token."""
        if asks.visitor is not None:
            raise Forbidden("Figures are for those who run the server.")
        one = workbench()
        return Response(watch.figures(one.counts() if one.team is None else None), media_type=CONTENT_TYPE_LATEST)

    @app.get("/thumbs.js", include_in_schema=False)
    def thumbs() -> FileResponse:
        """The web component by which people rate steps."""
        return FileResponse(HERE / "thumbs.js", media_type="text/javascript", headers={"Cache-Control": "public, max-age=3600"})

    @app.get("/yours", include_in_schema=False)
    def yours() -> FileResponse:
        """The page on which a person sees, downloads and erases what is kept of them: ``yours#TICKET``."""
        return FileResponse(HERE / "yours.html", media_type="text/html", headers=ALONE)

    @app.get("/yours.{kind}", include_in_schema=False)
    def part_of_yours(kind: Literal["js", "css"]) -> FileResponse:
        media_type = {"js": "text/javascript", "css": "text/css"}[kind]
        return FileResponse(HERE / f"yours.{kind}", media_type=media_type, headers=ALONE)

    made = app.openapi

    def documented() -> dict[str, Any]:
        document = made()
        parts = document["components"]["schemas"]
        problem = shapes.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        parts |= problem.pop("$defs", {}) | {"Problem": problem}
        for unused in ("HTTPValidationError", "ValidationError"):
            parts.pop(unused, None)
        return document

    app.openapi = documented  # type: ignore[method-assign]
    return app
