"""One list of cases through a client: `CLIENT VERSION | CASE | RESULT` a line.

Usage: http_clients.py URL requests|aiohttp|httpx|httpx-http2 [CA]
"""

import asyncio
import hashlib
import json
import os
import ssl
import sys

import aiohttp
import httpx
import requests

URL, CLIENT = sys.argv[1:3]
CA = sys.argv[3] if len(sys.argv) > 3 else None
NAME = f"{CLIENT}-{os.getpid()}"
THING = {"x-thing": "a thing"}
BIG = {"x-big": "b" * 4_000}
PARTS = [bytes([n % 256]) * 65_536 for n in range(64)]


def sha(body: bytes) -> str:
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}"


def told(body: bytes) -> str:
    return json.dumps(json.loads(body), sort_keys=True)


class Results:
    def __init__(self, client: str) -> None:
        self.client = client
        self.version = "?"

    def say(self, case: str, result: object) -> None:
        print(f"{self.client} {self.version} | {case} | {result}", flush=True)


def with_requests() -> None:
    out = Results("requests")
    out.version = "HTTP/1.1"
    with requests.Session() as session:
        def call(method, path, **more):
            return session.request(method, URL + path, timeout=30, verify=CA or True, **more)

        out.say("get", told(call("GET", "/echo?a=1&b=%20x", headers=THING).content))
        head = call("HEAD", "/bytes/1000")
        out.say("head", f"{head.status_code} {head.headers['content-length']} {len(head.content)}")
        post = call("POST", "/echo", data=b"hello", headers={"content-type": "text/plain"})
        out.say("post", told(post.content))
        stream = {"content-type": "application/octet-stream"}
        out.say("upload", told(call("POST", "/echo", data=iter(PARTS), headers=stream).content))
        out.say("download", sha(call("GET", "/bytes/4194304").content))
        out.say("chunks", sha(call("GET", "/chunks/1048576").content))
        part = call("GET", "/file", headers={"range": "bytes=1000-1999"})
        out.say("range", f"{part.status_code} {part.headers['content-range']} {sha(part.content)}")
        codes = [call("GET", f"/status/{code}").status_code for code in (204, 304, 404, 500)]
        out.say("status", codes)
        out.say("cookies", sorted(call("GET", "/cookies").raw.headers.getlist("set-cookie")))
        out.say("gzip", sha(call("GET", "/gzip").content))
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS"):
            out.say(method, told(call(method, "/echo").content))
        out.say("big", told(call("GET", "/echo", headers=BIG).content))
        with call("GET", f"/events/{NAME}", stream=True) as events:
            lines = (line for line in events.iter_lines(chunk_size=1) if line)
            seen = [next(lines)]
            call("GET", f"/go/{NAME}")
            seen.extend(lines)
        out.say("events", seen)
        out.say("kept", sum(call("GET", "/bytes/1").status_code == 200 for _ in range(20)))


async def with_aiohttp() -> None:
    out = Results("aiohttp")
    out.version = "HTTP/1.1"
    trust = ssl.create_default_context(cafile=CA) if CA else True
    connector = aiohttp.TCPConnector(ssl=trust)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def call(method, path, **more):
            async with session.request(method, URL + path, **more) as answer:
                return answer, await answer.read()

        async def parts():
            for part in PARTS:
                yield part

        out.say("get", told((await call("GET", "/echo?a=1&b=%20x", headers=THING))[1]))
        head, body = await call("HEAD", "/bytes/1000")
        out.say("head", f"{head.status} {head.headers['content-length']} {len(body)}")
        plain = {"content-type": "text/plain"}
        out.say("post", told((await call("POST", "/echo", data=b"hello", headers=plain))[1]))
        stream = {"content-type": "application/octet-stream"}
        out.say("upload", told((await call("POST", "/echo", data=parts(), headers=stream))[1]))
        out.say("download", sha((await call("GET", "/bytes/4194304"))[1]))
        out.say("chunks", sha((await call("GET", "/chunks/1048576"))[1]))
        part, body = await call("GET", "/file", headers={"range": "bytes=1000-1999"})
        out.say("range", f"{part.status} {part.headers['content-range']} {sha(body)}")
        codes = [(await call("GET", f"/status/{code}"))[0].status for code in (204, 304, 404, 500)]
        out.say("status", codes)
        jar, _ = await call("GET", "/cookies")
        out.say("cookies", sorted(jar.headers.getall("set-cookie")))
        out.say("gzip", sha((await call("GET", "/gzip"))[1]))
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS"):
            out.say(method, told((await call(method, "/echo"))[1]))
        out.say("big", told((await call("GET", "/echo", headers=BIG))[1]))
        async with session.get(f"{URL}/events/{NAME}") as events:
            seen = [(await events.content.readuntil(b"\n\n")).strip()]
            await call("GET", f"/go/{NAME}")
            seen.append((await events.content.read()).strip())
        out.say("events", seen)
        kept = [(await call("GET", "/bytes/1"))[0].status == 200 for _ in range(20)]
        out.say("kept", sum(kept))


def with_httpx(http2: bool) -> None:
    out = Results("httpx")
    trust = ssl.create_default_context(cafile=CA) if CA else True
    with httpx.Client(http2=http2, http1=not http2, verify=trust, timeout=30) as session:

        def call(method, path, **more):
            return session.request(method, URL + path, **more)

        first = call("GET", "/echo?a=1&b=%20x", headers=THING)
        out.version = first.http_version
        out.say("get", told(first.content))
        head = call("HEAD", "/bytes/1000")
        out.say("head", f"{head.status_code} {head.headers['content-length']} {len(head.content)}")
        post = call("POST", "/echo", content=b"hello", headers={"content-type": "text/plain"})
        out.say("post", told(post.content))
        stream = {"content-type": "application/octet-stream"}
        out.say("upload", told(call("POST", "/echo", content=iter(PARTS), headers=stream).content))
        out.say("download", sha(call("GET", "/bytes/4194304").content))
        out.say("chunks", sha(call("GET", "/chunks/1048576").content))
        part = call("GET", "/file", headers={"range": "bytes=1000-1999"})
        out.say("range", f"{part.status_code} {part.headers['content-range']} {sha(part.content)}")
        codes = [call("GET", f"/status/{code}").status_code for code in (204, 304, 404, 500)]
        out.say("status", codes)
        out.say("cookies", sorted(call("GET", "/cookies").headers.get_list("set-cookie")))
        out.say("gzip", sha(call("GET", "/gzip").content))
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS"):
            out.say(method, told(call(method, "/echo").content))
        out.say("big", told(call("GET", "/echo", headers=BIG).content))
        with session.stream("GET", f"{URL}/events/{NAME}") as events:
            lines = (line.encode() for line in events.iter_lines() if line)
            seen = [next(lines)]
            call("GET", f"/go/{NAME}")
            seen.extend(lines)
        out.say("events", seen)
        out.say("kept", sum(call("GET", "/bytes/1").status_code == 200 for _ in range(20)))


match CLIENT:
    case "requests":
        with_requests()
    case "aiohttp":
        asyncio.run(with_aiohttp())
    case "httpx":
        with_httpx(http2=False)
    case "httpx-http2":
        with_httpx(http2=True)
    case _:
        sys.exit(f"no client {CLIENT}")
