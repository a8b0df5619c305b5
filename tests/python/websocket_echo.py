"""A WebSocket server that echoes messages as they came; says its port on the first line, ends with its standard input."""

import asyncio
import logging
import sys

from websockets.asyncio.server import serve


async def echo(connection):
    async for message in connection:
        if message == "close 4001":
            await connection.close(4001, "as you wish")
            return
        if message == "break off":
            connection.transport.abort()
            return
        await connection.send(message)


async def main():
    def choose(_connection, offered):
        return next((name for name in ("chat", "other") if name in offered), None)

    options = dict(max_size=16 * 2**20, select_subprotocol=choose, close_timeout=2)
    async with serve(echo, "127.0.0.1", 0, **options) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


# What clients do wrong here they do on purpose.
logging.disable()
asyncio.run(main())
