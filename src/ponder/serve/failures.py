"""Why a request is refused, in the form that OpenAI's clients read."""

from __future__ import annotations

from ponder.core.types import Json

CODES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}
"""Type of an error by its status."""


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: Of the HTTP reply.
        message: For people; quotes nothing secret and no text of the conversation.
        code: For programs, such as `context_length_exceeded`.
        param: The field that is to blame.
        retry_after: Seconds after which the same request may succeed.
    """

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None, retry_after: int = 0
    ) -> None:
        """Keep the parts apart."""
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.retry_after = retry_after

    @property
    def body(self) -> Json:
        """The reply as OpenAI shapes it."""
        kind = CODES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the reply beside the usual ones."""
        headers = {"retry-after": str(self.retry_after)} if self.retry_after else {}
        return headers | ({"www-authenticate": "Bearer"} if self.status == 401 else {})
