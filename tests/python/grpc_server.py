"""A server of gRPC in all four shapes, for the tests of the data path.

Prints the port that it listens on. Ends with its standard input. What happened to calls is told by the call `Events`.
"""

import sys
import threading
from concurrent import futures

import grpc

MIB = 1 << 20
events = []
changed = threading.Condition()


def note(what):
    with changed:
        events.append(what)
        changed.notify_all()


def told(context):
    """What the client said under names of the test's own."""
    return sorted(
        (key, value if isinstance(value, str) else value.hex())
        for key, value in context.invocation_metadata()
        if key.startswith("x-test-")
    )


def unary(request, context):
    context.send_initial_metadata((("x-test-initial", "one"), ("x-test-raw-bin", b"\x00\xff\x01")))
    context.set_trailing_metadata((("x-test-last", "two"), ("x-test-end-bin", b"\xfe\x00")))
    return repr(told(context)).encode() + b"|" + request


def server_stream(request, context):
    for n in range(int(request)):
        yield b"%d" % n


def client_stream(requests, context):
    return b",".join(requests)


def bidi(requests, context):
    for request in requests:
        yield b"<" + request + b">"


def big(request, context):
    return request[::-1]


def fail(request, context):
    context.set_trailing_metadata((("x-test-why", "because"),))
    context.abort(grpc.StatusCode[request.decode()], "it is so: 100% \u00fc")


def fail_late(request, context):
    yield b"first"
    yield b"second"
    context.abort(grpc.StatusCode.DATA_LOSS, "lost")


def note_end(name, context):
    """Notes that a call came, and its end: from there, because a generator that is not asked any more goes no further."""
    gone = threading.Event()

    def ended():
        note(name + " cancelled")
        gone.set()

    left = context.time_remaining()
    note(name + (" with a deadline" if left is not None and left < 60 else " without one"))
    if not context.add_callback(ended):
        ended()
    return gone


# Both wait for longer than anybody waits for their events.
def hang(request, context):
    gone = note_end("hang", context)
    yield b"begun"
    gone.wait(20)


def silent(request, context):
    note_end("silent", context).wait(20)
    return b""


def wait_events(request, context):
    """The events, once there are so many; then they are forgotten."""
    with changed:
        changed.wait_for(lambda: len(events) >= int(request), 10)
        found = "\n".join(sorted(events)).encode()
        events.clear()
    return found


def main():
    health_answer = {"": b"\x08\x01", "down": b"\x08\x02"}

    def check(request, context):
        service = request[2:].decode()
        if service not in health_answer:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_answer[service]

    echo = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
        "Big": grpc.unary_unary_rpc_method_handler(big),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
        "Hang": grpc.unary_stream_rpc_method_handler(hang),
        "Silent": grpc.unary_unary_rpc_method_handler(silent),
        "Events": grpc.unary_unary_rpc_method_handler(wait_events),
    }
    health = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    options = [("grpc.max_receive_message_length", 64 * MIB), ("grpc.max_send_message_length", 64 * MIB)]
    server = grpc.server(futures.ThreadPoolExecutor(32), options=options)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("test.Echo", echo),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        )
    )
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0)


main()
