"""How many connections this process may open."""

from __future__ import annotations

import logging

__all__ = ("raise_file_limit",)

logger = logging.getLogger("broker.hosting")

OTHERS = 100  # files that are no clients: listeners, logs, the application's (guess)


def raise_file_limit(sessions: int) -> None:
    """Let this process open a file for each client, as far as the system allows.

    A shell's usual 1,024 are a soft limit, which a process may raise to the hard one.

    Args:
        sessions: most clients at once; the log says if they do not fit.
    """
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < sessions + OTHERS:
        logger.info(
            "room for about %d clients: the system allows %d open files "
            "(ulimit -Hn, LimitNOFILE), and limits.max_sessions is %d",
            hard - OTHERS,
            hard,
            sessions,
        )
