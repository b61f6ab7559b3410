"""The routes: what is read from a request, done by the worker, and told as a reply."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ponder.core.errors import ConfigurationError
from ponder.engines.local import LocalSampler
from ponder.models.load import LoadedModel
from ponder.serve.failures import Refusal
from ponder.serve.guard import Guard, refused
from ponder.serve.limits import Limits
from ponder.serve.page import page_routes
from ponder.serve.replies import HEARTBEAT, Reply, failed, scored
from ponder.serve.requests import ChatRequest, read_chat, read_score, too_long
from ponder.serve.worker import Answer, Draw, Event, Piece, Score, Scored, Worker

HEARTBEAT_SECONDS = 15.0
GONE = Response(status_code=499)
"""For a client that has left; nobody reads it."""


class Service:
    """One model behind HTTP.

    Args:
        loaded: The model.
        name: What clients call it.
        limits: Of requests.
    """

    def __init__(self, loaded: LoadedModel, name: str, limits: Limits) -> None:
        """Start the thread that owns the model."""
        self._name, self._chat, self._limits = name, loaded.chat, limits
        sampler = LocalSampler(loaded.model, loaded.chat, name=name)
        self._positions = sampler.positions
        self._vocabulary = int(loaded.model.config.get_text_config().vocab_size)
        self._rendering = threading.Lock()  # one tokenizer, and nobody promises that it bears two threads
        self.worker = Worker(sampler, loaded.model, limits.requests)

    def routes(self) -> list[Route]:
        """Everything that is served."""
        return [
            Route("/health", self.health, methods=["GET"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.score, methods=["POST"]),
        ]

    async def health(self, request: Request) -> Response:
        """Whether requests are answered; says nothing else, as it needs no key."""
        return JSONResponse({"status": "ok"}) if self.worker.alive else JSONResponse({"status": "stopped"}, 503)

    async def models(self, request: Request) -> Response:
        """The one model."""
        model = {"id": self._name, "object": "model", "created": 0, "owned_by": "ponder"}
        return JSONResponse({"object": "list", "data": [model | {"max_model_len": self._positions}]})

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        asked = read_chat(await _body(request), self._name, self._limits)
        ids = await run_in_threadpool(self._prompt, asked)
        room = None if self._positions is None else self._positions - len(ids)
        if room is not None and room < 1:
            raise too_long(len(ids), self._positions or 0)
        events: asyncio.Queue[Event] = asyncio.Queue()
        draw = Draw(
            ids=tuple(ids),
            seed=asked.chosen_seed(),
            samples=asked.samples,
            sampling=asked.sampling(room, self._limits.max_tokens),
            tell=_teller(events),
            streamed=bool(asked.stream),
            top=(asked.top_logprobs or 0) if asked.logprobs else None,
        )
        counted = asked.stream_options is not None and asked.stream_options.include_usage
        reply = Reply(self._name, self._chat, counted)
        self.worker.submit(draw)
        if asked.stream:
            headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
            stream = self._stream(draw, reply, events)
            return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
        answers: list[Answer] = []
        while len(answers) < draw.samples:
            event = await self._next(draw, events, request)
            if event is None:
                return GONE
            if isinstance(event, Answer):
                answers.append(event)
        return JSONResponse(reply.whole(answers))

    async def score(self, request: Request) -> Response:
        """Score given token ids."""
        body = await _body(request)
        asked = read_score(body, self._name, self._vocabulary, self._positions, self._limits)
        events: asyncio.Queue[Event] = asyncio.Queue()
        work = Score(asked.sequences, asked.logprobs, _teller(events))
        self.worker.submit(work)
        event = await self._next(work, events, request)
        if not isinstance(event, Scored):
            return GONE
        return JSONResponse(await run_in_threadpool(scored, self._name, self._chat, asked.sequences, event.scores))

    def _prompt(self, asked: ChatRequest) -> list[int]:
        with self._rendering:
            try:
                return self._chat.prompt([turn.message() for turn in asked.messages])
            except ConfigurationError as error:
                raise Refusal(400, error.what, param="messages") from None

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

    async def _stream(self, draw: Draw, reply: Reply, events: asyncio.Queue[Event]) -> AsyncIterator[bytes]:
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
                    yield failed(event.body)
                    return
                if isinstance(event, Piece):
                    yield reply.grown(event.sample, event.text)
                elif isinstance(event, Answer):
                    answers.append(event)
                    yield reply.ended(event)
            yield reply.closing(answers)
        finally:
            self.worker.cancel(draw)


def application(service: Service, *, key: str | None, hosts: frozenset[str] | None, limits: Limits) -> Starlette:
    """The whole ASGI application: the guard in front, errors in OpenAI's shape.

    Args:
        service: Of one model; stopped with the application.
        key: See `Guard`.
        hosts: See `Guard`.
        limits: See `Guard`.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.worker.stop)

    return Starlette(
        routes=[*service.routes(), *page_routes()],
        lifespan=lifespan,
        middleware=[Middleware(Guard, key=key, hosts=hosts, limits=limits)],
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
