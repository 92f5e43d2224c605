"""Errors of requests, with the status that each protocol has for them."""

from trencadis_format.errors import UserError

__all__ = [
    "BusyError",
    "ForbiddenError",
    "InvalidRequestError",
    "LateError",
    "RequestError",
    "SlowError",
    "TooLargeError",
    "UnavailableError",
    "UnknownModelError",
    "UnreadableError",
]


class RequestError(UserError):
    """A request that is not answered. One line.

    Attributes
    ----------
    http : int
        Status over REST.
    rpc : str
        Name of the status over gRPC (`grpc.StatusCode`).
    """

    http = 400
    rpc = "INVALID_ARGUMENT"


class InvalidRequestError(RequestError):
    """The request does not fit the protocol or the model."""


class ForbiddenError(RequestError):
    """The request comes from a web page."""

    http = 403
    rpc = "PERMISSION_DENIED"


class UnknownModelError(RequestError):
    """There is no such model, or no such version of it."""

    http = 404
    rpc = "NOT_FOUND"


class TooLargeError(RequestError):
    """The request is larger than the server takes."""

    http = 413
    rpc = "RESOURCE_EXHAUSTED"


class UnreadableError(RequestError):
    """The body is compressed."""

    http = 415


class SlowError(RequestError):
    """The client did not send the whole request in time."""

    http = 408
    rpc = "DEADLINE_EXCEEDED"


class BusyError(RequestError):
    """The queue is full."""

    http = 429
    rpc = "RESOURCE_EXHAUSTED"


class UnavailableError(RequestError):
    """The model is not loaded, or no device is left to compute it."""

    http = 503
    rpc = "UNAVAILABLE"


class LateError(RequestError):
    """The request was not computed in time."""

    http = 504
    rpc = "DEADLINE_EXCEEDED"
