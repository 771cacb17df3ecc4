"""What a client that subscribes gets of the past, and what it is told about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from broker.config import Resume, TopicRules
from broker.message import Message, Position

from .codes import Errors
from .frames import Error, Publication, Subscribe, SubscribeResult
from .tokens import SubscribeGrant

__all__ = ("Recovery",)

REJECT_UNRECOVERED = 2  # bit of Subscribe.flag


class Recovery:
    """One subscribe request, seen from its stream: all that was missed, or none.

    Args:
        rules: of the topic.
        max_recovered: most publications that may be recovered.

    Attributes:
        needs_missed: history is to be read from the request's position on.
        needs_latest: the last message of history is to be read.
    """

    def __init__(
        self, request: Subscribe, rules: TopicRules, *, max_recovered: int
    ) -> None:
        self._request = request
        self._is_recoverable = (
            rules.history_size > 0 and rules.resume is not Resume.NOTHING
        )
        # A policy that drops messages drops them without an end to the subscription.
        self._is_positioned = self._is_recoverable and rules.overflow.is_lossless
        self._max_recovered = max_recovered
        is_wanted = request.recover and self._is_recoverable
        self.needs_latest = is_wanted and rules.resume is Resume.LATEST
        self.needs_missed = is_wanted and not self.needs_latest

    def outcome(
        self,
        *,
        start: Position | None,
        is_whole: bool,
        missed: Sequence[Message],
        publication: Callable[[Message], Publication],
        grant: SubscribeGrant,
        ttl: int,
    ) -> SubscribeResult | Error:
        """Return the reply.

        Args:
            start: the place after which everything is delivered or in ``missed``.
            is_whole: ``missed`` is all that came after the request's position, or the
                last message if that is what is needed.
            missed: oldest first.
            publication: makes one of a message.
            grant: what the subscription's token says.
            ttl: when the token is to be refreshed (s from now).
        """
        request = self._request
        top = start
        if self.needs_latest:
            has_recovered = is_whole and bool(missed) and missed[-1].position == top
            if has_recovered and top == Position(request.epoch, request.offset):
                missed = ()  # it has it
        else:
            has_recovered = self.needs_missed and is_whole
            has_recovered = has_recovered and len(missed) <= self._max_recovered
            if missed and not has_recovered:
                top = missed[-1].position
        is_strict = request.recover and bool(request.flag & REJECT_UNRECOVERED)
        if is_strict and not has_recovered:
            return Errors.UNRECOVERABLE_POSITION
        # SDKs go on from the publications, so theirs is the request's.
        is_after = has_recovered and self.needs_missed
        return SubscribeResult(
            expires=grant.expires_at is not None,
            ttl=ttl,
            recoverable=self._is_recoverable,
            positioned=self._is_positioned,
            epoch=top.epoch if top is not None and self._is_recoverable else "",
            offset=request.offset if is_after else top.offset if top else 0,
            publications=[publication(each) for each in missed]
            if has_recovered
            else [],
            was_recovering=request.recover,
            recovered=has_recovered,
            data=grant.data,
        )
