"""Every error that a caller can see. Each has an HTTP status and a stable code (RFC 9457 problem details).

HubelError
    ClientError
        MalformedRequest        400  no HTTP/1.1, or a body that cannot be read as images
        UndecodableImage        400  damaged, cut off or empty image
        InvalidAnswer           400  feedback on what this service has not signed
        Unauthorized            401  no key, or a wrong one
        CorsRefused             403  a web page of another origin
        ForeignAnswer           403  feedback on the answer to another key
        UnknownPath             404
        UnknownAnswer           404  feedback on the answer of a version that is gone, or nothing to delete
        NoIndex                 404  the live version has no index of similar images
        UnknownThumbnail        404  of an index that is not in use, or a number that it does not have
        WrongMethod             405
        RequestTimeout          408  the request did not arrive in time
        ExpiredAnswer           410  feedback that comes too late
        BodyTooLarge            413
        ImageTooLarge           413  too many pixels, or a side too long
        TooManyImages           413
        UnsupportedFormat       415  not a JPEG, PNG or WebP file
        UnsupportedEncoding     415  a compressed body
        UnsupportedMediaType    415  a content type that holds no images
        WrongHost               421  called by a name that is not its own
        InvalidParameter        422
        NotExplainable          422  a map is asked for that the model does not give
        RateLimited             429  more than the key's limit
        HeadTooLarge            431
    ServerError
        InternalError           500
        Overloaded              503
        Draining                503  it is about to stop
        OutOfMemory             503  no room for a batch on the GPU, or for an image's pixels
        KeptUnavailable         503  what is kept of a request cannot be deleted now
        DeadlineExceeded        504  which metrics count as 499 where it was the client's own
"""

from typing import ClassVar


class HubelError(Exception):
    """``str()`` is the problem's detail: the value, the limit and the setting or way out. Nothing internal in it."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    counted = 0  # the status in metrics, where that is another

    def headers(self) -> dict[str, str]:
        """Further response headers that the status calls for."""
        return {}


class ClientError(HubelError):
    """The request has to change."""


class MalformedRequest(ClientError):
    status, code, title = 400, "malformed_request", "The request cannot be read"


class UndecodableImage(ClientError):
    status, code, title = 400, "undecodable_image", "The image cannot be decoded"


class InvalidAnswer(ClientError):
    status, code, title = 400, "invalid_answer", "The answer is not one of this service"


class Unauthorized(ClientError):
    status, code, title = 401, "unauthorized", "A key is needed"

    def headers(self) -> dict[str, str]:
        return {"www-authenticate": "Bearer"}


class CorsRefused(ClientError):
    status, code, title = 403, "cors_refused", "Web pages of this origin may not send this"


class ForeignAnswer(ClientError):
    status, code, title = 403, "foreign_answer", "The answer was given to another key"


class UnknownPath(ClientError):
    status, code, title = 404, "unknown_path", "There is nothing at this path"


class UnknownAnswer(ClientError):
    status, code, title = 404, "unknown_answer", "Nothing is known of the answer"


class NoIndex(ClientError):
    status, code, title = 404, "no_index", "The live version has no index"


class UnknownThumbnail(ClientError):
    status, code, title = 404, "unknown_thumbnail", "There is no such thumbnail"


class WrongMethod(ClientError):
    status, code, title = 405, "wrong_method", "The path does not take this method"

    def __init__(self, detail: str, allowed: str) -> None:
        super().__init__(detail)
        self.allowed = allowed

    def headers(self) -> dict[str, str]:
        return {"allow": self.allowed}


class RequestTimeout(ClientError):
    """The connection is closed after it, as the rest of the request may still come."""

    status, code, title = 408, "request_timeout", "The request did not arrive in time"

    def headers(self) -> dict[str, str]:
        return {"connection": "close"}


class ExpiredAnswer(ClientError):
    status, code, title = 410, "expired_answer", "Feedback on the answer comes too late"


class BodyTooLarge(ClientError):
    status, code, title = 413, "body_too_large", "The request body is too large"


class ImageTooLarge(ClientError):
    status, code, title = 413, "image_too_large", "The image has too many pixels"


class TooManyImages(ClientError):
    status, code, title = 413, "too_many_images", "The request holds too many images"


class UnsupportedFormat(ClientError):
    status, code, title = 415, "unsupported_format", "The file is not an accepted image format"


class UnsupportedEncoding(ClientError):
    status, code, title = 415, "unsupported_encoding", "The body is compressed"


class UnsupportedMediaType(ClientError):
    status, code, title = 415, "unsupported_media_type", "The content type is not accepted"


class WrongHost(ClientError):
    status, code, title = 421, "wrong_host", "The service has another name"


class InvalidParameter(ClientError):
    status, code, title = 422, "invalid_parameter", "A parameter is wrong"


class NotExplainable(ClientError):
    status, code, title = 422, "not_explainable", "The model's answers cannot be explained"


class RateLimited(ClientError):
    status, code, title = 429, "rate_limited", "The key's limit is reached"

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds

    def headers(self) -> dict[str, str]:
        return {"retry-after": str(self.retry_after_seconds)}


class HeadTooLarge(ClientError):
    status, code, title = 431, "head_too_large", "The request line and headers are too large"


class ServerError(HubelError):
    """The request was fine; the same may be sent again."""


class InternalError(ServerError):
    status, code, title = 500, "internal_error", "The service failed"


class Overloaded(ServerError):
    status, code, title = 503, "overloaded", "The service has more work than it can queue"

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds

    def headers(self) -> dict[str, str]:
        return {"retry-after": str(self.retry_after_seconds)}


class Draining(ServerError):
    status, code, title = 503, "draining", "The service is about to stop"

    def headers(self) -> dict[str, str]:
        return {"retry-after": "5"}


class OutOfMemory(ServerError):
    status, code, title = 503, "out_of_memory", "The service is out of memory"

    def headers(self) -> dict[str, str]:
        return {"retry-after": "1"}


class KeptUnavailable(ServerError):
    status, code, title = 503, "kept_unavailable", "What is kept cannot be changed now"

    def headers(self) -> dict[str, str]:
        return {"retry-after": "5"}


class DeadlineExceeded(ServerError):
    status, code, title = 504, "deadline_exceeded", "The answer would have come too late"

    def __init__(self, detail: str, chosen: bool = False) -> None:
        """chosen: the client allowed less time than the service does, so it is no failure of the service."""
        super().__init__(detail)
        self.counted = 499 if chosen else 0
