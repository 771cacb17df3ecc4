"""One session's presence in topics, told to those who want to know."""

from __future__ import annotations

import logging
from dataclasses import replace

import msgspec

from .core import Core
from .errors import BrokerError, UsageError
from .message import NO_HEADERS
from .state.presence import Member
from .topics import PRESENCE_PREFIX, is_pattern, presence_topic

__all__ = ("Attendance",)

logger = logging.getLogger("broker")


class Attendance:
    """Where one session is present; it enters and leaves as it subscribes.

    A join or leave is a message on ``$presence.<topic>``, a JSON text
    ``{"event":"join","topic":…,"client_id":…,"user":…}``, with ``"info"`` where there
    is some, if the rules say so.
    """

    def __init__(self, core: Core, client_id: str, user: str | None) -> None:
        self._core = core
        self._member = Member(client_id, user)
        self._topics: dict[str, Member] = {}

    def identify(self, user: str) -> None:
        """Be present as this user from now on."""
        self._member = Member(self._member.client_id, user)

    def check(self, topic: str, info: str) -> None:
        """Refuse info that others could not be told.

        Raises:
            UsageError: it is no JSON.
            MessageTooLarge: a join with it would be.
        """
        if not info:
            return
        try:
            msgspec.json.decode(info)
        except msgspec.DecodeError as error:
            raise UsageError(f"info is no JSON: {error}") from error
        news = self._news("leave", topic, replace(self._member, info=info))
        self._core.check_size(news, NO_HEADERS)

    async def enter(self, topic: str, info: str = "") -> None:
        """Be present in a topic, if its rules keep presence.

        Args:
            info: JSON text about the client, for others.

        Cancellation: ``leave_all`` puts it right.
        """
        rules = self._core.rules.of(topic)
        if not rules.presence or is_pattern(topic) or topic.startswith(PRESENCE_PREFIX):
            return
        member = self._topics[topic] = replace(self._member, info=info)
        if await self._core.connected.enter(topic, member) and rules.join_leave:
            await self._announce("join", topic, member)

    async def leave(self, topic: str) -> None:
        """Be present in a topic no more."""
        member = self._topics.get(topic)
        if member is None:
            return
        joins_are_told = self._core.rules.of(topic).join_leave
        left = await self._core.connected.leave(topic, self._member.client_id)
        self._topics.pop(topic, None)
        if left and joins_are_told:
            await self._announce("leave", topic, member)

    async def leave_all(self) -> None:
        """Be present nowhere; where that fails, at least not in the others."""
        for topic in list(self._topics):
            try:
                await self.leave(topic)
            except BrokerError as error:
                logger.warning(
                    "client %a stays in %s: %s", self._member.client_id, topic, error
                )

    async def _announce(self, event: str, topic: str, member: Member) -> None:
        await self._core.publish(
            presence_topic(topic), self._news(event, topic, member)
        )

    def _news(self, event: str, topic: str, member: Member) -> str:
        news: dict[str, object] = {
            "event": event,
            "topic": topic,
            "client_id": member.client_id,
            "user": member.user,
        }
        if member.info:
            news["info"] = msgspec.Raw(member.info.encode())
        return msgspec.json.encode(news).decode()
