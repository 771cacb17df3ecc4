"""Patches read by the official JavaScript SDK, as its codecs read them off the wire."""

from __future__ import annotations

import json
import random
import subprocess
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from broker.protocol.delta import create_delta, worthwhile_delta

pytestmark = pytest.mark.e2e

PATIENCE_S = 120
STREAMS, VERSIONS = 60, 8

# Nothing connects. The codecs are not exported; a client has one.
READ = """
const { Centrifuge } = require("centrifuge");
const { Centrifuge: Binary } = require("centrifuge/build/protobuf");
const url = "ws://sdk.invalid";
const json = new Centrifuge(url)._codec;
const binary = new Binary(url, { protocol: "protobuf" })._codec;
const unhex = (hex) => new Uint8Array(Buffer.from(hex, "hex"));
const texts = (frames) => frames.map((frame) => json.decodeReplies(frame)[0].push.pub);
const bytes = (pubs) => pubs.map((pub) => ({ ...pub, data: unhex(pub.data) }));

const read = (codec, pubs) => {
  let previous;
  return pubs.map((pub) => {
    try {
      const found = codec.applyDeltaIfNeeded(pub, previous);
      previous = found.newPrevValue;
      return [Buffer.from(previous).toString("hex"), found.newData];
    } catch (error) {
      return [null, error.message];
    }
  });
};

const { streams, binaries } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const found = {
  streams: streams.map((frames) => read(json, texts(frames))),
  binaries: binaries.map((pubs) => read(binary, bytes(pubs)).map((pair) => pair[0])),
};
process.stdout.write(JSON.stringify(found));
"""

WORDS = (
    *("price", "рост", "падение", "Привет, мир!", "съешь ещё этих булок", "Ёлка"),
    *(
        "😀",
        "😁",
        "👍🏽",
        "👍🏿",
        "👩‍💻",
        "🇷🇺",
        "❤️",
        "cafe\u0301",
        "й",
        "и\u0306",
        "हिन्दी",
        "日本語",
    ),
    *("\x00", "\u2028", "\ufeff", '"', "\\", "\n", "0:", "@,;", "€", "x" * 40),
)


def read(sdk: Path, **given: Any) -> dict[str, Any]:
    """Return what the SDK makes of frames, or of binary publications."""
    run = subprocess.run(
        ["node", "-e", READ],
        cwd=sdk,
        input=json.dumps({"streams": [], "binaries": [], **given}),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def frame(data: bytes, *, is_delta: bool) -> str:
    """Return the reply that carries a publication: its data is a JSON string."""
    # Strict: a cut inside a character fails here and nowhere later.
    pub: dict[str, Any] = {"data": data.decode()}
    if is_delta:
        pub["delta"] = True
    return json.dumps({"push": {"channel": "c", "pub": pub}}, ensure_ascii=False)


def next_text(rng: random.Random, text: str) -> str:
    """Return the text after one to three edits, as people and programs make them."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randint(0, len(text))
        kind = rng.randrange(6)
        if kind == 0:  # one character flips to a near one: а, б; 😀, 😁
            flipped = "".join(chr(ord(char) ^ 1) for char in text[at : at + 1])
            text = text[:at] + flipped + text[at + 1 :]
        elif kind == 1:
            text = text[:at] + rng.choice(WORDS) + text[at:]
        elif kind == 2:
            text = text[:at] + text[at + rng.randint(1, 9) :]
        elif kind == 3:
            text = text[at:] + text[:at]
        elif kind == 4:
            composed = unicodedata.normalize("NFC", text)
            is_composed = text == composed
            text = unicodedata.normalize("NFD", text) if is_composed else composed
        else:
            text += text[at : at + 200]
    return text


def documents(rng: random.Random) -> list[Any]:
    """Return versions of one document: a text, an object, or a list of objects."""
    kind = rng.randrange(3)
    text = " ".join(rng.choices(WORDS, k=rng.choice([0, 3, 30, 150])))
    rows = [
        {"id": i, "имя": rng.choice(WORDS), "n": rng.random()}
        for i in range(rng.randint(1, 60))
    ]
    versions: list[Any] = []
    for _ in range(VERSIONS):
        text = next_text(rng, text)
        rng.choice(rows)["n"] = rng.random()
        rng.choice(rows)["имя"] = next_text(rng, rng.choice(WORDS))
        if rng.random() < 0.2:
            rows.insert(rng.randint(0, len(rows)), {"id": -1, "имя": "новая", "n": 0.5})
        each: list[Any] = [text, {"text": text, "😀": len(text)}, rows]
        versions.append(json.loads(json.dumps(each[kind])))
    return versions


def test_texts(sdk: Path) -> None:
    """Each version is a patch to the one before, as in live streams."""
    rng = random.Random(5)
    streams = [documents(rng) for _ in range(STREAMS)]
    sent: list[list[bytes]] = []
    frames: list[list[str]] = []
    shorter = 0
    for versions in streams:
        datas = [json.dumps(each, ensure_ascii=False).encode() for each in versions]
        patches = [create_delta(*pair) for pair in pairwise(datas)]
        shorter += sum(worthwhile_delta(*pair) is not None for pair in pairwise(datas))
        sent.append(datas)
        full = frame(datas[0], is_delta=False)
        frames.append([full, *(frame(patch, is_delta=True) for patch in patches)])
    found = read(sdk, streams=frames)["streams"]
    for versions, datas, results in zip(streams, sent, found, strict=True):
        assert results == [
            [data.hex(), version] for data, version in zip(datas, versions, strict=True)
        ]
    assert shorter > STREAMS * (VERSIONS - 1) / 2


def test_bytes(sdk: Path) -> None:
    """For clients that speak protobuf: any bytes, cut anywhere."""
    rng = random.Random(6)
    sent: list[list[bytes]] = []
    binaries: list[list[dict[str, Any]]] = []
    for _ in range(STREAMS):
        datas = [rng.randbytes(rng.choice([0, 1, 7, 100, 3000]))]
        pubs: list[dict[str, Any]] = [{"data": datas[0].hex()}]
        for _ in range(VERSIONS):
            base = datas[-1]
            at = rng.randint(0, len(base))
            middle = rng.choice([b"", b"\xff", b"\0" * 70, "ё".encode(), base[:99]])
            datas.append(base[:at] + middle + base[at + rng.randint(0, 9) :])
            pubs.append({"data": create_delta(base, datas[-1]).hex(), "delta": True})
        sent.append(datas)
        binaries.append(pubs)
    found = read(sdk, binaries=binaries)["binaries"]
    assert found == [[data.hex() for data in datas] for datas in sent]


def test_the_sdk_notices_what_is_wrong(sdk: Path) -> None:
    """A patch to another base, and one cut inside a character on its way."""
    base, other = ('"' + "при" * 20 + '"').encode(), ('"' + "про" * 20 + '"').encode()
    patch = create_delta(base, base[:-1] + 'вет"'.encode())
    small, cut = '"при"'.encode(), '8\n6@0,2:\ufffd"0;'  # и is D0 B8, й is D0 B9
    frames = [
        [frame(other, is_delta=False), frame(patch, is_delta=True)],
        [frame(small, is_delta=False), frame(cut.encode(), is_delta=True)],
    ]
    found = read(sdk, streams=frames)["streams"]
    assert [patched for _, patched in found] == [
        [None, "bad checksum"],
        [None, "unknown delta operator"],
    ]
