"""Calls the test's server of gRPC in every way, and prints what came of each: a line of JSON a case.

The lines are the same whoever stands between, if nobody changes anything.
"""

import hashlib
import json
import sys
import threading
from concurrent import futures

import grpc

MIB = 1 << 20
PATIENCE = 15


def metadata(pairs):
    return sorted(
        [key, value if isinstance(value, str) else value.hex()]
        for key, value in pairs or ()
        if key.startswith("x-test-")
    )


def show(case, **found):
    print(json.dumps({"case": case, **found}, sort_keys=True), flush=True)


def main():
    options = [("grpc.max_receive_message_length", 64 * MIB), ("grpc.max_send_message_length", 64 * MIB)]
    channel = grpc.insecure_channel(sys.argv[1], options=options)

    def method(kind, name):
        return getattr(channel, kind)("/test.Echo/" + name)

    def refused(case, call, *args, **kwargs):
        """A call that fails."""
        messages = []
        try:
            answer = call(*args, timeout=PATIENCE, **kwargs)
            for message in [answer] if isinstance(answer, bytes) else answer:
                messages.append(message.decode())
            show(case, code="OK", messages=messages)
        except grpc.RpcError as error:
            trailing = metadata(error.trailing_metadata())
            show(case, code=error.code().name, details=error.details(), messages=messages, trailing=trailing)

    def events(count):
        return method("unary_unary", "Events")(b"%d" % count, timeout=PATIENCE).decode().split("\n")

    said = (("x-test-a", "1"), ("x-test-a", "2"), ("x-test-b-bin", b"\x00\x01\xff"))
    answer, call = method("unary_unary", "Unary").with_call(b"hello", metadata=said, timeout=PATIENCE)
    show(
        "unary",
        answer=answer.decode(),
        code=call.code().name,
        initial=metadata(call.initial_metadata()),
        trailing=metadata(call.trailing_metadata()),
    )
    show("empty", answer=method("unary_unary", "Unary")(b"", timeout=PATIENCE).decode())
    stream = method("unary_stream", "ServerStream")(b"7", timeout=PATIENCE)
    show("server stream", messages=[message.decode() for message in stream])
    parts = (b"part %d" % n for n in range(9))
    show("client stream", answer=method("stream_unary", "ClientStream")(parts, timeout=PATIENCE).decode())

    # Each message waits for the answer to the one before.
    turn = threading.Semaphore(1)

    def pings():
        for n in range(6):
            turn.acquire()
            yield b"ping %d" % n

    answers = []
    for message in method("stream_stream", "Bidi")(pings(), timeout=PATIENCE):
        answers.append(message.decode())
        turn.release()
    show("both stream", messages=answers)

    body = bytes(range(251)) * (8 * MIB // 251)
    answer = method("unary_unary", "Big")(body, timeout=PATIENCE)
    show("big", bytes=len(answer), sha256=hashlib.sha256(answer).hexdigest())
    answer = method("unary_unary", "Big")(body, timeout=PATIENCE, compression=grpc.Compression.Gzip)
    show("big, compressed", bytes=len(answer), sha256=hashlib.sha256(answer).hexdigest())

    for code in ["INVALID_ARGUMENT", "UNAVAILABLE", "INTERNAL", "UNAUTHENTICATED"]:
        refused("refused " + code, method("unary_unary", "Fail"), code.encode())
    refused("fails late", method("unary_stream", "FailLate"), b"")
    refused("no such method", method("unary_unary", "Nothing"), b"")

    for name, kind in [("Hang", "unary_stream"), ("Silent", "unary_unary")]:
        try:
            answer = method(kind, name)(b"", timeout=1.5)
            list(answer)
            show("deadline of " + name, code="OK")
        except grpc.RpcError as error:
            show("deadline of " + name, code=error.code().name, events=events(2))

    stream = method("unary_stream", "Hang")(b"")
    first = next(stream).decode()
    stream.cancel()
    show("cancelled", first=first, code=stream.code().name, events=events(2))

    unary = method("unary_unary", "Unary")
    with futures.ThreadPoolExecutor(20) as pool:
        texts = [b"%d" % n for n in range(300)]
        answers = pool.map(lambda text: unary(text, timeout=PATIENCE).rsplit(b"|", 1)[1], texts)
        show("many at once", same=list(answers) == texts)


main()
