"""A server of aiohttp that says what reached it. Prints its port; ends with its input."""

import asyncio
import gzip
import hashlib
import json
import pathlib
import sys
import tempfile

from aiohttp import web

GATES: dict[str, asyncio.Event] = {}


def gate(name: str) -> asyncio.Event:
    return GATES.setdefault(name, asyncio.Event())


def pattern(size: int) -> bytes:
    return bytes(range(251)) * (size // 251) + bytes(range(size % 251))


async def echo(request: web.Request) -> web.Response:
    digest, size = hashlib.sha256(), 0
    async for part in request.content.iter_any():
        digest.update(part)
        size += len(part)
    told = {
        "method": request.method,
        "target": request.path_qs,
        "thing": request.headers.get("x-thing"),
        "big": len(request.headers.get("x-big", "")),
        "type": request.content_type if size else None,
        "size": size,
        "sha256": digest.hexdigest(),
    }
    return web.Response(text=json.dumps(told, sort_keys=True), content_type="application/json")


async def whole(request: web.Request) -> web.Response:
    return web.Response(body=pattern(int(request.match_info["size"])))


async def chunked(request: web.Request) -> web.StreamResponse:
    body = pattern(int(request.match_info["size"]))
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    for start in range(0, len(body), 10_000):
        await response.write(body[start : start + 10_000])
    await response.write_eof()
    return response


async def status(request: web.Request) -> web.Response:
    return web.Response(status=int(request.match_info["code"]))


async def health(_: web.Request) -> web.Response:
    return web.Response(text="well")


async def cookies(_: web.Request) -> web.Response:
    response = web.Response(text="ok")
    response.headers.add("set-cookie", "a=1; Path=/")
    response.headers.add("set-cookie", "b=2; Path=/; HttpOnly")
    return response


async def packed(_: web.Request) -> web.Response:
    return web.Response(body=gzip.compress(b"packed " * 100), headers={"content-encoding": "gzip"})


async def events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"data: one\n\n")
    # What follows is sent when somebody has seen the first.
    await gate(request.match_info["name"]).wait()
    await response.write(b"data: two\n\n")
    await response.write_eof()
    return response


async def go(request: web.Request) -> web.Response:
    gate(request.match_info["name"]).set()
    return web.Response(text="gone")


async def main() -> None:
    folder = tempfile.TemporaryDirectory()
    path = pathlib.Path(folder.name) / "file"
    path.write_bytes(pattern(100_000))
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/echo", echo)
    app.router.add_get("/bytes/{size}", whole)
    app.router.add_get("/chunks/{size}", chunked)
    app.router.add_get("/status/{code}", status)
    app.router.add_get("/cookies", cookies)
    app.router.add_get("/gzip", packed)
    app.router.add_get("/file", lambda _: web.FileResponse(path))
    app.router.add_get("/events/{name}", events)
    app.router.add_get("/go/{name}", go)
    app.router.add_get("/health", health)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


asyncio.run(main())
