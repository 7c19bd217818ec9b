"""What is no HTTP at all is answered with a problem like everything else: the one answer that uvicorn gives by itself.

It comes before any application, so nothing is counted or recorded of it; uvicorn writes a warning to the log. And an
answer that is never read can be given up: the application is told how to cut the connection.
"""

import os

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from actions.errors import BadRequest
from server.http.exchange import ABORT
from server.http.problems import problem


class ProblemProtocol(HttpToolsProtocol):
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]

    def send_400_response(self, msg: str) -> None:
        request_id = os.urandom(16).hex()
        told = problem(BadRequest("The request is not HTTP.", reason="malformed-request"), request_id, None)
        body = orjson.dumps(told)
        head = (
            "HTTP/1.1 400 Bad Request",
            "content-type: application/problem+json",
            f"content-length: {len(body)}",
            f"x-request-id: {request_id}",
            "connection: close",
        )
        self.transport.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        self.transport.close()
