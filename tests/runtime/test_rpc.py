"""Typed methods: what they take, what they refuse, and what a client is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec
import pytest

from broker import Broker, Session, UsageError
from broker.rpc import RpcMethods
from tests.runtime.client_helpers import protocol, serving

if TYPE_CHECKING:
    from collections import UserDict


class Order(msgspec.Struct):
    item: str
    count: int = 1


@dataclass
class Total:
    euros: float
    items: list[str]


class Named(TypedDict):
    name: str


methods = RpcMethods()


@methods.method
async def add(session: Session[Any], numbers: list[int]) -> int:
    return sum(numbers)


@methods.method
async def order(session: Session[Any], order: Order) -> Total:
    return Total(1.5 * order.count, [order.item])


@methods.method
async def greet(session: Session[Any], who: Named) -> str:
    return f"hello {who['name']}, {session.user}"


@methods.method
async def nothing(session: Session[Any]) -> None:
    return None


@methods.method
async def anything(session, data):  # type: ignore[no-untyped-def] # that is tested
    return data


@methods.method
async def broken(session: Session[Any]) -> None:
    raise KeyError("a bug")


@pytest.mark.parametrize(
    ("method", "data", "result"),
    [
        ("add", [1, 2, 39], 42),
        ("order", {"item": "tea", "count": 2}, {"euros": 3.0, "items": ["tea"]}),
        ("order", {"item": "é"}, {"euros": 1.5, "items": ["é"]}),
        ("greet", {"name": "Bob", "more": 1}, "hello Bob, ann"),
        ("nothing", {"is": "ignored"}, None),
        ("anything", {"a": [None]}, {"a": [None]}),
    ],
)
async def test_calls(method: str, data: object, result: object) -> None:
    async with Broker() as broker:
        async with serving(broker, protocol(rpc=methods), user="ann") as client:
            answer = await client.call("rpc", method=method, data=data)
            assert answer == {"data": result}


@pytest.mark.parametrize(
    ("method", "data", "code", "says"),
    [
        ("add", [1, "2"], 107, "$[1]"),
        ("add", {}, 107, "array"),
        ("order", {"count": 1}, 107, "item"),
        ("order", None, 107, "object"),
        ("greet", "Bob", 107, "object"),
        ("no", 1, 104, "method not found"),
        ("__init__", 1, 104, "method not found"),
        ("broken", 1, 100, "internal"),
    ],
)
async def test_a_wrong_call_says_what_is_wrong(
    method: str, data: object, code: int, says: str
) -> None:
    async with Broker() as broker:
        async with serving(broker, protocol(rpc=methods)) as client:
            reply, _ = await client.ask("rpc", method=method, data=data)
            assert reply["error"]["code"] == code
            assert says in reply["error"]["message"]
            assert (await client.call("rpc", method="add", data=[]))["data"] == 0


async def test_without_data_it_is_null() -> None:
    async with Broker() as broker:
        async with serving(broker, protocol(rpc=methods)) as client:
            assert await client.call("rpc", method="anything") == {"data": None}
            reply, _ = await client.ask("rpc", method="add")
            assert reply["error"]["code"] == 107


async def no_parameters() -> None: ...
async def three(session: object, a: int, b: int) -> None: ...
async def keyword_only(session: object, *, data: int) -> None: ...
async def many(session: object, *data: int) -> None: ...
async def unknown(session: object, data: UserDict[str, int]) -> None: ...
async def impossible(session: object, data: int | Order | Total) -> None: ...


@pytest.mark.parametrize(
    "function", [no_parameters, three, keyword_only, many, unknown, impossible]
)
def test_what_is_no_method(function: Any) -> None:
    with pytest.raises(UsageError, match=function.__name__):
        RpcMethods().method(function)


def test_a_name_is_taken_once() -> None:
    mine = RpcMethods()
    mine.add("add", add)
    with pytest.raises(UsageError, match="already"):
        mine.add("add", add)


def test_the_decorator_leaves_the_function_alone() -> None:
    assert RpcMethods().method(add) is add
