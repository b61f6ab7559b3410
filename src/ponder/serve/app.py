"""The routes: what is read from a request, done by the worker, and told as a reply."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ponder.core.errors import ConfigurationError, ResourceError
from ponder.measure.costs.energy import machine_meter
from ponder.measure.costs.prices import PriceSheet
from ponder.serve.audit import Audit
from ponder.serve.ballot import Ballot, chosen
from ponder.serve.budgets import Thinking
from ponder.serve.engine import Answer, Draw, Engine, Event, Piece, Score, Scored
from ponder.serve.failures import Refusal
from ponder.serve.guard import Guard, refused
from ponder.serve.keys import Keys
from ponder.serve.limits import Limits
from ponder.serve.metrics import CONTENT_TYPE, Metrics
from ponder.serve.page import page_routes
from ponder.serve.replies import HEARTBEAT, Reply, failed, scored
from ponder.serve.requests import ChatRequest, read_chat, read_score, too_long
from ponder.serve.spending import Purse
from ponder.serve.visits import Visit, Visits
from ponder.serve.watch import Watch

HEARTBEAT_SECONDS = 15.0
GONE = Response(status_code=499)
"""For a client that has left; nobody reads it."""


class Service:
    """One model behind HTTP.

    Args:
        engine: Of the model; stopped with the application.
        name: What clients call it.
        limits: Of requests.
        thinking: What holds where a request does not say.
        purse: Tells what requests use up.
        audit: Written a line for each request.
        watch: Sees whether the files of the model have changed.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        limits: Limits,
        *,
        thinking: Thinking | None = None,
        purse: Purse | None = None,
        audit: Audit | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Nothing is asked yet."""
        self.worker, self._name, self._limits = engine, name, limits
        self._thinking, self._watch = thinking or Thinking(), watch
        purse = purse or Purse(name, machine_meter(), PriceSheet(()))
        self.visits = Visits(limits, purse, Metrics(), audit)
        self._rendering = threading.Lock()  # one tokenizer, and nobody promises that it bears two threads

    def routes(self) -> list[Route]:
        """Everything that is served."""
        return [
            Route("/health", self.health, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.score, methods=["POST"]),
        ]

    async def health(self, request: Request) -> Response:
        """Whether requests are answered; says little else, as it needs no key."""
        changed = self._watch is not None and await run_in_threadpool(self._watch.changed)
        about = {"model": "the files have changed since they were loaded"} if changed else {}
        if self.worker.alive:
            return JSONResponse({"status": "ok"} | about)
        return JSONResponse({"status": "stopped"} | about, 503)

    async def metrics(self, request: Request) -> Response:
        """Counters for Prometheus."""
        gauges = {
            "ponder_waiting_requests": (self.worker.waiting, "Accepted and not answered yet."),
            "ponder_alive": (float(self.worker.alive), "Whether requests are answered."),
        }
        if self._watch is not None:
            changed = float(self._watch.changed_before)
            gauges["ponder_model_changed"] = (changed, "Whether the model's files differ from what was loaded.")
        return Response(self.visits.metrics.text(gauges), media_type=CONTENT_TYPE)

    async def models(self, request: Request) -> Response:
        """The one model."""
        model = {"id": self._name, "object": "model", "created": 0, "owned_by": "ponder"}
        return JSONResponse({"object": "list", "data": [model | {"max_model_len": self.worker.positions}]})

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        visit = self.visits.come("chat", request.scope.get("ponder.key", ""))
        with self._refusals(visit):
            asked = read_chat(await _body(request), self._name, self._limits)
            visit.prompt = "\n".join(f"{turn.role}: {turn.message().content}" for turn in asked.messages)
            draw, events = await self._draw(asked)
            counted = asked.stream_options is not None and asked.stream_options.include_usage
            reply = Reply(self._name, self.worker.speaker, counted, held=draw.sampling.json_schema is not None)
            reply.id = f"chatcmpl-{visit.id}"
            self.worker.submit(draw)
            if asked.stream:
                headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
                stream = self._stream(draw, reply, events, visit)
                return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
            answers = await self._answers(draw, events, request, Ballot(asked.best_of))
            if answers is None:
                self.visits.left(visit)
                return GONE
            usage = self.visits.counted(visit, answers)
            body = reply.whole(chosen(answers, asked.best_of), usage)
            self.visits.answered(visit)
            return JSONResponse(body)

    async def score(self, request: Request) -> Response:
        """Score given token ids."""
        visit = self.visits.come("scores", request.scope.get("ponder.key", ""))
        with self._refusals(visit):
            body = await _body(request)
            asked = read_score(body, self._name, self.worker.vocabulary, self.worker.positions, self._limits)
            events: asyncio.Queue[Event] = asyncio.Queue()
            work = Score(asked.sequences, asked.logprobs, _teller(events))
            self.worker.submit(work)
            event = await self._next(work, events, request)
            if not isinstance(event, Scored):
                self.visits.left(visit)
                return GONE
            speaker = self.worker.speaker
            found = await run_in_threadpool(scored, self._name, speaker, asked.sequences, event.scores)
            self.visits.scored(visit, sum(map(len, asked.sequences)))
            return JSONResponse(found)

    @contextmanager
    def _refusals(self, visit: Visit) -> Iterator[None]:
        """Counts what ends a request before its answer."""
        try:
            yield
        except Refusal as refusal:
            self.visits.refused(visit, refusal)
            raise
        except (ClientDisconnect, asyncio.CancelledError):
            self.visits.left(visit)
            raise

    async def _draw(self, asked: ChatRequest) -> tuple[Draw, asyncio.Queue[Event]]:
        """What the engine is asked, and where its events will come."""
        ids = await run_in_threadpool(self._prompt, asked)
        positions = self.worker.positions
        room = None if positions is None else positions - len(ids)
        if room is not None and room < 1:
            raise too_long(len(ids), positions or 0)
        sampling = asked.sampling(room, self._limits.max_tokens, self._thinking)
        try:
            await run_in_threadpool(self.worker.check, sampling)
        except (ConfigurationError, ResourceError) as error:
            raise Refusal(400, error.what, code="unsupported_parameter", param=error.where or None) from None
        events: asyncio.Queue[Event] = asyncio.Queue()
        draw = Draw(
            ids=tuple(ids),
            seed=asked.chosen_seed(),
            samples=asked.drawn,
            sampling=sampling,
            tell=_teller(events),
            streamed=bool(asked.stream),
            top=(asked.top_logprobs or 0) if asked.logprobs else None,
        )
        return draw, events

    def _prompt(self, asked: ChatRequest) -> list[int]:
        with self._rendering:
            try:
                return self.worker.speaker.prompt([turn.message() for turn in asked.messages])
            except ConfigurationError as error:
                raise Refusal(400, error.what, param="messages") from None

    async def _answers(
        self, draw: Draw, events: asyncio.Queue[Event], request: Request, ballot: Ballot
    ) -> list[Answer] | None:
        """All answers, or as many as decide a vote; None once the client has left."""
        answers: list[Answer] = []
        while len(answers) < draw.samples and not ballot.decided:
            event = await self._next(draw, events, request)
            if event is None:
                return None
            if isinstance(event, Answer):
                answers.append(event)
                ballot.add(event.completion)
        self.worker.cancel(draw)  # of what the vote does not need any more
        return answers

    async def _next(self, work: Draw | Score, events: asyncio.Queue[Event], request: Request) -> Event | None:
        """What the worker tells next, or None once the client has left, whose request is then cancelled."""
        told, gone = asyncio.ensure_future(events.get()), asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({told, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not told.done():
                self.worker.cancel(work)
                return None
            return _unless_refused(told.result())
        except asyncio.CancelledError:
            self.worker.cancel(work)
            raise
        finally:
            for waiting in (told, gone):
                waiting.cancel()
            with suppress(asyncio.CancelledError):
                await gone

    async def _stream(
        self, draw: Draw, reply: Reply, events: asyncio.Queue[Event], visit: Visit
    ) -> AsyncIterator[bytes]:
        """The events of a stream; whoever stops reading it cancels what is left."""
        answers: list[Answer] = []
        try:
            yield reply.opening(draw.samples)
            while len(answers) < draw.samples:
                try:
                    event = await asyncio.wait_for(events.get(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield HEARTBEAT
                    continue
                if isinstance(event, Refusal):
                    self.visits.refused(visit, event)
                    yield failed(event.body)
                    return
                self.visits.told(visit)
                if isinstance(event, Piece):
                    yield reply.grown(event.sample, event.text)
                elif isinstance(event, Answer):
                    answers.append(event)
                    yield reply.ended(event)
            usage = self.visits.counted(visit, answers)
            self.visits.answered(visit)
            yield reply.closing(usage)
        finally:
            self.worker.cancel(draw)
            self.visits.left(visit)


def application(service: Service, *, keys: Keys, hosts: frozenset[str] | None, limits: Limits) -> Starlette:
    """The whole ASGI application: the guard in front, errors in OpenAI's shape.

    Args:
        service: Of one model; stopped with the application.
        keys: See `Guard`.
        hosts: See `Guard`.
        limits: See `Guard`.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.worker.stop)
        service.visits.close()

    return Starlette(
        routes=[*service.routes(), *page_routes()],
        lifespan=lifespan,
        middleware=[Middleware(Guard, keys=keys, hosts=hosts, limits=limits)],
        exception_handlers={Refusal: _refusal, HTTPException: _http_error, ClientDisconnect: _gone, 500: _crashed},
    )


async def _body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # which no page of another origin can send without asking first
        raise Refusal(415, "send JSON, with the header Content-Type: application/json", code="unsupported_media_type")
    return await request.body()


async def _left(request: Request) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _teller(events: asyncio.Queue[Event]) -> Callable[[Event], None]:
    """Puts events of the worker's thread into a queue of the server's."""
    loop = asyncio.get_running_loop()

    def tell(event: Event) -> None:
        with suppress(RuntimeError):  # the loop has closed: nobody is left to be told
            loop.call_soon_threadsafe(events.put_nowait, event)

    return tell


def _unless_refused(event: Event) -> Event:
    if isinstance(event, Refusal):
        raise event
    return event


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refused(error, close=error.status in (408, 413))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refused(Refusal(error.status_code, str(error.detail)))


async def _gone(request: Request, error: Exception) -> Response:
    return GONE


async def _crashed(request: Request, error: Exception) -> Response:
    return refused(Refusal(500, "the server failed"))
