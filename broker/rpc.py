"""Typed methods that clients of the Centrifuge protocol may call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any, TypeAlias, TypeVar, get_type_hints

import msgspec

from .client_protocol import client_error
from .errors import UsageError
from .message import Payload
from .protocol.codes import Errors
from .session import Session

__all__ = ("RpcMethods",)

Method: TypeAlias = Callable[..., Awaitable[Any]]
MethodT = TypeVar("MethodT", bound=Method)


@dataclass(frozen=True, slots=True)
class _Method:
    call: Method
    decoder: msgspec.json.Decoder[Any] | None  # of its data; None if it takes none


class RpcMethods:
    """An ``rpc`` handler for ``ClientProtocol`` that is made of typed functions.

        methods = RpcMethods()

        @methods.method
        async def add(session: Session[Any], numbers: list[int]) -> int:
            return sum(numbers)

        protocol = ClientProtocol(clock=time.time, rpc=methods)

    A method takes the session and, unless it needs none, its data; both are positional.
    The data's annotation says what JSON it takes: anything that msgspec can decode,
    such as a ``msgspec.Struct``, a dataclass or a ``TypedDict``. What it returns is
    encoded by msgspec too. Data of another kind never reaches it: the client is told
    what is wrong, with error 107. An unknown method is error 104.
    """

    def __init__(self) -> None:
        self._methods: dict[str, _Method] = {}

    def method(self, function: MethodT) -> MethodT:
        """Add a function under its own name; a decorator.

        Raises:
            UsageError: a name that is taken, a signature that is none of a method, or
                an annotation that cannot be read or decoded to.
        """
        self.add(function.__name__, function)
        return function

    def add(self, name: str, function: Method) -> None:
        """Add a function under a name that clients use; raises as ``method``."""
        if name in self._methods:
            raise UsageError(f"there is a method {name!a} already")
        parameters = list(signature(function).parameters.values())
        if len(parameters) not in (1, 2) or not all(map(_is_positional, parameters)):
            raise UsageError(f"method {name!a} must take (session) or (session, data)")
        decoder = None
        if len(parameters) == 2:
            try:
                kind = get_type_hints(function).get(parameters[1].name, Any)
                decoder = msgspec.json.Decoder(kind)
            except (NameError, TypeError) as error:
                problem = f"the data of method {name!a} has no usable type: {error}"
                raise UsageError(problem) from error
        self._methods[name] = _Method(function, decoder)

    async def __call__(
        self, session: Session[Any], method: str, data: Payload
    ) -> Payload:
        """Call a method.

        Raises:
            ClientError: there is none of this name (104), or it takes other data (107).
            Exception: what it raises itself.
        """
        known = self._methods.get(method)
        if known is None:
            raise client_error(Errors.METHOD_NOT_FOUND)
        if known.decoder is None:
            result = await known.call(session)
        else:
            try:
                given = known.decoder.decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise client_error(Errors.BAD_REQUEST, str(error)) from error
            result = await known.call(session, given)
        return msgspec.json.encode(result).decode()


def _is_positional(parameter: Parameter) -> bool:
    return parameter.kind in (
        Parameter.POSITIONAL_ONLY,
        Parameter.POSITIONAL_OR_KEYWORD,
    )
