"""Every case of a WebSocket against the echo server at this address; one line each: its name, and what was seen."""

import asyncio
import base64
import hashlib
import os
import socket
import struct
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

HOST, PORT = sys.argv[1].rsplit(":", 1)
URL = f"ws://{HOST}:{PORT}/chat?a=b"


async def messages(*sent, **options):
    async with connect(URL, max_size=None, **options) as ws:
        seen = [ws.subprotocol]
        for message in sent:
            await ws.send(message)
            got = await ws.recv()
            digest = hashlib.sha256(got.encode() if isinstance(got, str) else got).hexdigest()
            seen.append((type(got).__name__, len(got), digest[:16]))
    return (*seen, ws.close_code, ws.close_reason)


async def many():
    async with connect(URL) as ws:
        for number in range(500):
            await ws.send(f"message {number}")
        return [await ws.recv() for _ in range(500)] == [f"message {n}" for n in range(500)]


async def pings():
    async with connect(URL) as ws:
        return [bool(await (await ws.ping(data)) >= 0) for data in (b"", b"x" * 125)]


async def closes(code, reason):
    async with connect(URL) as ws:
        await ws.close(code, reason)
    return ws.close_code, ws.close_reason


async def is_closed(message):
    async with connect(URL) as ws:
        await ws.send(message)
        try:
            return await ws.recv()
        except ConnectionClosed:
            return ws.close_code, ws.close_reason


def raw(data, *, answer=0, then=b"", finish=False, version=b"13", slowly=False):
    """Opens by hand, sends bytes that no library would, waits for so many bytes in answer, sends the rest or an end, and
    tells all that comes back."""
    key = base64.b64encode(os.urandom(16))
    with socket.create_connection((HOST, int(PORT)), timeout=10) as sock:
        sock.sendall(
            b"GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: " + version + b"\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
        )
        got = b""
        while b"\r\n\r\n" not in got:
            got += sock.recv(1)
        status = got.split(b" ", 2)[1].decode()
        if status != "101":
            return status
        for piece in ([data[at : at + 1] for at in range(len(data))] if slowly else [data]):
            sock.sendall(piece)
        frames = b""
        try:
            while len(frames) < answer:
                frames += sock.recv(answer - len(frames)) or b"missing" * answer
            sock.sendall(then)
            if finish:
                sock.shutdown(socket.SHUT_WR)
            while piece := sock.recv(65536):
                frames += piece
        except ConnectionResetError:
            return status, frames.hex(), "reset"
        return status, frames.hex(), "closed"


def frame(opcode, payload=b"", *, fin=True, rsv=0, masked=True, length=None):
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    length = len(payload) if length is None else length
    mask = b"\x37\xfa\x21\x3d"
    bit = 0x80 if masked else 0
    if length < 126:
        head = struct.pack("!BB", first, bit | length)
    elif length < 65536:
        head = struct.pack("!BBH", first, bit | 126, length)
    else:
        head = struct.pack("!BBQ", first, bit | 127, length)
    if not masked:
        return head + payload
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


CLOSE = frame(8, struct.pack("!H", 1000))
TEXT, BINARY, PING, PONG = 1, 2, 9, 10

CASES = {
    "text": lambda: messages("hello", "gr\u00fc\u00df dich \U0001f30d"),
    "empty": lambda: messages("", b""),
    "binary": lambda: messages(bytes(range(256))),
    "lengths": lambda: messages(*(b"x" * n for n in (125, 126, 127, 65535, 65536))),
    "large text": lambda: messages("x" * (2 * 2**20)),
    "large binary": lambda: messages(b"\x81" * (5 * 2**20 + 1), compression=None),
    "uncompressed": lambda: messages("a" * 1000, compression=None),
    "fragmented": lambda: messages(["a", "", "bc"], [b"x" * 70000, b"y" * 70000]),
    "subprotocol": lambda: messages("x", subprotocols=["unknown", "other"]),
    "five hundred": many,
    "ping and pong": pings,
    **{
        f"close {code}": lambda code=code: closes(code, "why")
        for code in (1000, 1001, 1003, 1007, 1011, 3000, 4999)
    },
    "server closes": lambda: is_closed("close 4001"),
    "server breaks off": lambda: is_closed("break off"),
    "a refused version": lambda: raw(b"", version=b"8"),
    "hello by hand": lambda: raw(frame(TEXT, b"Hello"), answer=7, then=CLOSE),
    "fragments and a ping between": lambda: raw(
        frame(TEXT, b"a", fin=False) + frame(PING, b"p") + frame(0, b"b"), answer=7, then=CLOSE
    ),
    "an unasked pong": lambda: raw(frame(PONG, b"?") + frame(TEXT, b"x"), answer=3, then=CLOSE),
    "an empty close": lambda: raw(frame(8)),
    "a frame byte by byte": lambda: raw(frame(TEXT, b"slow"), answer=6, then=CLOSE, slowly=True),
    "not masked": lambda: raw(frame(TEXT, b"x", masked=False)),
    "a reserved bit": lambda: raw(frame(TEXT, b"x", rsv=2)),
    "an unknown opcode": lambda: raw(frame(3, b"x")),
    "an unknown control": lambda: raw(frame(11)),
    "a long ping": lambda: raw(frame(PING, b"x" * 126)),
    "a ping in fragments": lambda: raw(frame(PING, b"x", fin=False)),
    "a continuation of nothing": lambda: raw(frame(0, b"x")),
    "text within text": lambda: raw(frame(TEXT, b"a", fin=False) + frame(TEXT, b"b")),
    "text that is no UTF-8": lambda: raw(frame(TEXT, b"\xff\xfe")),
    "a close of one byte": lambda: raw(frame(8, b"\x03")),
    "a close code of nobody": lambda: raw(frame(8, struct.pack("!H", 1005))),
    "more than the server takes": lambda: raw(frame(BINARY, b"", length=2**40)),
    "a frame cut short": lambda: raw(frame(TEXT, b"Hello")[:-2], finish=True),
    "an end without a close": lambda: raw(frame(TEXT, b"Hello"), answer=7, finish=True),
    "nothing but an end": lambda: raw(b"", finish=True),
    "an HTTP request": lambda: raw(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
}


async def main():
    for name, case in CASES.items():
        try:
            result = await asyncio.to_thread(case)
            if asyncio.iscoroutine(result):
                result = await asyncio.wait_for(result, 20)
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
        print(f"{name}: {result}")


asyncio.run(main())
