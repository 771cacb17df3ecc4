"""What a client that subscribes gets of the past, and what it is told about it."""

from __future__ import annotations

from collections.abc import Sequence

from broker.message import Message, Position

from . import codec
from .codes import Errors
from .frames import Error, Subscribe, SubscribeResult
from .tokens import SubscribeGrant

__all__ = ("Recovery",)

REJECT_UNRECOVERED = 2  # bit of Subscribe.flag


class Recovery:
    """One subscribe request, seen from its stream: all that was missed, or none.

    Args:
        is_recoverable: the topic keeps a history.
        max_recovered: most publications that may be recovered.

    Attributes:
        is_wanted: history is to be read from the request's position on.
    """

    def __init__(
        self, request: Subscribe, *, is_recoverable: bool, max_recovered: int
    ) -> None:
        self._request = request
        self._is_recoverable = is_recoverable
        self._max_recovered = max_recovered
        self.is_wanted = request.recover and is_recoverable

    def outcome(
        self,
        *,
        start: Position | None,
        is_whole: bool,
        missed: Sequence[Message],
        grant: SubscribeGrant,
        ttl: int,
    ) -> SubscribeResult | Error:
        """Return the reply.

        Args:
            start: the place after which everything is delivered or in ``missed``.
            is_whole: ``missed`` is all that came after the request's position.
            missed: oldest first.
            grant: what the subscription's token says.
            ttl: when the token is to be refreshed (s from now).
        """
        request = self._request
        has_recovered = (
            self.is_wanted and is_whole and len(missed) <= self._max_recovered
        )
        is_strict = request.recover and bool(request.flag & REJECT_UNRECOVERED)
        if is_strict and not has_recovered:
            return Errors.UNRECOVERABLE_POSITION
        top = start
        if missed and not has_recovered:
            top = missed[-1].position
        found = [codec.publication_of(message) for message in missed]
        return SubscribeResult(
            expires=grant.expires_at is not None,
            ttl=ttl,
            recoverable=self._is_recoverable,
            positioned=self._is_recoverable,
            epoch=top.epoch if top is not None and self._is_recoverable else "",
            # SDKs go on from the publications, so theirs is the request's.
            offset=request.offset if has_recovered else top.offset if top else 0,
            publications=found if has_recovered else [],
            was_recovering=request.recover,
            recovered=has_recovered,
            data=grant.data,
        )
