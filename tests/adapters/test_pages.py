"""What the pages' scripts make of what they are given, in node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import adapters

STATIC = Path(adapters.__path__[0]) / "pages" / "static"
SCRIPT = """
const { readHash } = await import(process.argv[1]);
console.log(JSON.stringify(readHash(process.argv[2])));
"""


@pytest.mark.parametrize(
    ("address", "room", "token"),
    [
        ("", "", ""),
        ("#", "", ""),
        ("#lobby", "lobby", ""),
        ("#token=a.b-c_.d", "", "a.b-c_.d"),
        ("#lobby&token=a.b.c", "lobby", "a.b.c"),
        ("#token=a.b.c&lobby", "lobby", "a.b.c"),
        ("#lobby&token=", "lobby", ""),
        ("#&token=a==", "", "a=="),
    ],
)
def test_the_token_behind_an_address(address: str, room: str, token: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    module = (STATIC / "rooms.token.js").as_uri()
    given = [node, "--input-type=module", "--eval", SCRIPT, module, address]
    ran = subprocess.run(given, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(ran.stdout) == {"room": room, "token": token}
