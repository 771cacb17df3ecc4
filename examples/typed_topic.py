"""A topic with a type: JSON outside, a struct inside, checked where it comes in.

Run:  hypercorn examples.typed_topic:app
Type: python -m websockets ws://127.0.0.1:8000/readings
      {"sensor": "hall", "celsius": 21.5}
      {"sensor": "hall", "celsius": "warm"}
      {"sensor": "oven", "celsius": 240}

A client that sends nonsense is told what is wrong with it, and nobody else hears of it.
Hot readings raise an alarm on ws://127.0.0.1:8000/alarms: a task of the server itself
subscribes to the one topic and publishes on the other.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Generic, TypeVar

import anyio
import msgspec
from anyio.abc import TaskStatus
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from adapters.asgi.lifespan import broker_lifespan
from adapters.asgi.websocket import open_session
from broker import Broker, Gap, Message, Overflow, Receipt

T = TypeVar("T", bound=msgspec.Struct)

broker = Broker()


class Reading(msgspec.Struct, forbid_unknown_fields=True):
    sensor: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    celsius: Annotated[float, msgspec.Meta(ge=-273.15)]


class Alarm(msgspec.Struct):
    sensor: str
    reason: str


class Problem(msgspec.Struct):
    error: str


class TypedTopic(Generic[T]):
    """A topic all of whose messages are JSON of one type."""

    def __init__(self, name: str, type_: type[T]) -> None:
        self.name = name
        self._decoder = msgspec.json.Decoder(type_)

    def parse(self, text: str | bytes) -> T:
        """Return the value; a msgspec.DecodeError says what is wrong, and where."""
        return self._decoder.decode(text)

    async def publish(self, value: T) -> Receipt:
        return await broker.publish(self.name, to_json(value))


def to_json(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()


readings = TypedTopic("readings", Reading)
alarms = TypedTopic("alarms", Alarm)


async def exchange_readings(websocket: WebSocket) -> None:
    async with open_session(websocket, broker) as session:
        await session.subscribe(readings.name)
        async for text in session:
            try:
                reading = readings.parse(text)
            except msgspec.DecodeError as error:
                await session.send(to_json(Problem(str(error))))  # to this client alone
            else:
                await readings.publish(reading)


async def show_alarms(websocket: WebSocket) -> None:
    async with open_session(websocket, broker) as session:
        await session.subscribe(alarms.name)
        await session.wait_ended()


async def watch(*, task_status: TaskStatus[None]) -> None:
    """Raise alarms, for as long as the server runs."""
    async with broker.subscribe(readings.name, overflow=Overflow.DROP_OLDEST) as items:
        task_status.started()
        async for item in items:
            match item:
                case Message(payload=payload):
                    reading = readings.parse(payload)
                    if reading.celsius > 100:
                        alarm = Alarm(reading.sensor, f"{reading.celsius} °C")
                        await alarms.publish(alarm)
                case Gap(missed=missed):
                    await alarms.publish(Alarm("*", f"{missed} readings not looked at"))


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
    async with anyio.create_task_group() as tasks:
        await tasks.start(watch)
        yield
        tasks.cancel_scope.cancel()


app = Starlette(
    routes=[
        WebSocketRoute("/readings", exchange_readings),
        WebSocketRoute("/alarms", show_alarms),
    ],
    lifespan=broker_lifespan(broker, lifespan),
)
