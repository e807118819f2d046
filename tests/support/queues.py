"""A queue that delivers at least once and is strict about handles, behind the APIs of SQS and of Pub/Sub."""

from __future__ import annotations

import hashlib
import heapq
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from job.arrival.queue import Message


@dataclass
class Sent:
    id: str
    body: bytes
    attributes: dict[str, str]
    at: float
    receives: int = 0
    hidden_until: float = 0.0

    @property
    def handle(self) -> str:
        """That of its latest receipt alone is good."""
        return f"{self.id}/{self.receives}"


@dataclass
class Mailbox:
    """What is in the queue; times are the clock's."""

    clock: Callable[[], float] = time.monotonic
    most_receives: int = 10**9
    """After so many, a message goes to the dead letters."""
    messages: dict[str, Sent] = field(default_factory=dict)
    dead: dict[str, Sent] = field(default_factory=dict)
    receives: Counter[str] = field(default_factory=Counter)
    deleted: list[str] = field(default_factory=list)
    requests: int = 0
    """That its server was asked."""
    on_delete: Callable[[Sent], None] = lambda sent: None

    def __post_init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self._visible: deque[str] = deque()
        self._hidden: list[tuple[float, str]] = []

    def send(self, body: str | bytes, attributes: dict[str, str] | None = None) -> str:
        with self.changed:
            id = f"m{len(self.messages) + len(self.deleted) + len(self.dead)}"
            content = body.encode(errors="surrogatepass") if isinstance(body, str) else body
            self.messages[id] = Sent(id, content, attributes or {}, time.time())
            self._visible.append(id)
            self.changed.notify_all()
            return id

    def receive(self, most: int, visibility: float, wait: float = 0.0) -> list[Sent]:
        until = time.monotonic() + wait
        with self.changed:
            while True:
                found = self._take(most, visibility)
                left = until - time.monotonic()
                if found or left <= 0:
                    return found
                self.changed.wait(min(left, 0.1))  # what was hidden may be visible again

    def hide(self, handle: str, seconds: float) -> bool:
        """Whether the handle was good, and the message hidden."""
        with self.changed:
            sent, now = self._of(handle), self.clock()
            if sent is None or sent.hidden_until <= now:
                return False
            sent.hidden_until = now + seconds
            heapq.heappush(self._hidden, (sent.hidden_until, sent.id))
            return True

    def delete(self, handle: str) -> bool:
        with self.changed:
            sent = self._of(handle)
            if sent is None:
                return False
            self.on_delete(sent)
            del self.messages[sent.id]
            self.deleted.append(sent.id)
            return True

    def visible(self) -> int:
        """How many messages anybody could receive."""
        with self.changed:
            return sum(sent.hidden_until <= self.clock() for sent in self.messages.values())

    def _of(self, handle: str) -> Sent | None:
        sent = self.messages.get(handle.partition("/")[0])
        return sent if sent is not None and sent.handle == handle else None

    def _take(self, most: int, visibility: float) -> list[Sent]:
        now = self.clock()
        while self._hidden and self._hidden[0][0] <= now:
            _, id = heapq.heappop(self._hidden)
            if id in self.messages and self.messages[id].hidden_until <= now:
                self._visible.append(id)
        found: list[Sent] = []
        while self._visible and len(found) < most:
            sent = self.messages.get(self._visible.popleft())
            if sent is None or sent.hidden_until > now:
                continue
            if sent.receives >= self.most_receives:
                self.dead[sent.id] = self.messages.pop(sent.id)
                continue
            sent.receives, sent.hidden_until = sent.receives + 1, now + visibility
            self.receives[sent.id] += 1
            heapq.heappush(self._hidden, (sent.hidden_until, sent.id))
            found.append(sent)
        return found


class InMemory:
    """The queue as the watcher wants it, in the same process."""

    longest = 1000.0
    uri = "memory"

    def __init__(self, held: Mailbox, visibility: float = 100.0) -> None:
        self.held, self._visibility = held, visibility
        self.fails: list[Exception] = []
        """Each is raised once."""

    def receive(self, seconds: float) -> list[Message]:
        self._fail()
        found = self.held.receive(10, self._visibility)
        return [Message(sent.id, sent.handle, sent.body, sent.attributes, sent.at) for sent in found]

    def extend(self, handles: list[str]) -> None:
        self._fail()
        for handle in handles:
            self.held.hide(handle, self._visibility)

    def release(self, handles: list[str]) -> None:
        for handle in handles:
            self.held.hide(handle, 0)

    def delete(self, handles: list[str]) -> None:
        self._fail()
        for handle in handles:
            self.held.delete(handle)

    def _fail(self) -> None:
        if self.fails:
            raise self.fails.pop(0)


@contextmanager
def sqs_server(held: Mailbox) -> Iterator[str]:
    """What SQS answers to the requests that the watcher makes; for AWS_ENDPOINT_URL_SQS.

    moto's takes time in proportion to the square of the number of messages.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_SqsHandler,), {"held": held}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _SqsHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    held: Mailbox

    def log_message(self, *_: Any, **__: Any) -> None:
        pass

    def do_POST(self) -> None:
        with suppress(OSError):  # who asked may have been killed
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            action = self.headers["X-Amz-Target"].rpartition(".")[2]
            self.held.requests += 1
            content = json.dumps(getattr(self, action)(asked)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def ReceiveMessage(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = self.held.receive(asked["MaxNumberOfMessages"], asked["VisibilityTimeout"], asked["WaitTimeSeconds"])
        messages = [
            {
                "MessageId": sent.id,
                "ReceiptHandle": sent.handle,
                "Body": sent.body.decode(),
                "MD5OfBody": hashlib.md5(sent.body, usedforsecurity=False).hexdigest(),
                "Attributes": {"SentTimestamp": str(int(sent.at * 1000))},
            }
            for sent in found
        ]
        return {"Messages": messages} if messages else {}

    def DeleteMessageBatch(self, asked: dict[str, Any]) -> dict[str, Any]:
        return self._each(asked, lambda entry: self.held.delete(entry["ReceiptHandle"]))

    def ChangeMessageVisibilityBatch(self, asked: dict[str, Any]) -> dict[str, Any]:
        return self._each(asked, lambda entry: self.held.hide(entry["ReceiptHandle"], entry["VisibilityTimeout"]))

    def _each(self, asked: dict[str, Any], done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        assert 1 <= len(asked["Entries"]) <= 10
        answers: dict[str, Any] = {"Successful": [], "Failed": []}
        for entry in asked["Entries"]:
            if done(entry):
                answers["Successful"].append({"Id": entry["Id"]})
            else:
                fault = {"Id": entry["Id"], "SenderFault": True, "Code": "ReceiptHandleIsInvalid"}
                answers["Failed"].append(fault)
        return answers


@contextmanager
def pubsub_server(held: Mailbox, subscription: str, ack_deadline: float = 10.0) -> Iterator[str]:
    """The pull API of Pub/Sub; for PUBSUB_EMULATOR_HOST."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from google.protobuf.empty_pb2 import Empty
    from google.pubsub_v1 import types

    def check(name: str, context: grpc.ServicerContext) -> None:
        if name != subscription:
            context.abort(grpc.StatusCode.NOT_FOUND, "Resource not found")

    def pull(request: Any, context: grpc.ServicerContext) -> Any:
        check(request.subscription, context)
        wait = min(5.0, context.time_remaining() or 5.0)
        answer = types.PullResponse()
        for sent in held.receive(request.max_messages, ack_deadline, wait):
            message = types.PubsubMessage(data=sent.body, attributes=sent.attributes, message_id=sent.id)
            message.publish_time = {"seconds": int(sent.at)}
            answer.received_messages.append(types.ReceivedMessage(ack_id=sent.handle, message=message))
        return answer

    def acknowledge(request: Any, context: grpc.ServicerContext) -> Empty:
        check(request.subscription, context)
        for handle in request.ack_ids:
            held.delete(handle)
        return Empty()

    def modify(request: Any, context: grpc.ServicerContext) -> Empty:
        check(request.subscription, context)
        if not 0 <= request.ack_deadline_seconds <= 600:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "ack_deadline_seconds")
        for handle in request.ack_ids:
            held.hide(handle, request.ack_deadline_seconds)
        return Empty()

    def handler(answer: Callable[..., Any], asked: Any, predictions: Callable[[Any], bytes]) -> Any:
        return grpc.unary_unary_rpc_method_handler(answer, asked.deserialize, predictions)

    handlers = {
        "Pull": handler(pull, types.PullRequest, types.PullResponse.serialize),
        "Acknowledge": handler(acknowledge, types.AcknowledgeRequest, Empty.SerializeToString),
        "ModifyAckDeadline": handler(modify, types.ModifyAckDeadlineRequest, Empty.SerializeToString),
    }
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
