"""The token of an answer: what feedback and deletions have to know of it, signed, so that the service need remember nothing.

It is signed, not encrypted: who holds it can read label, probability and times. Client and model stand in it as hashes.
"""

import binascii
import hmac
import struct
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b

from msgspec import Struct

from service.errors import ExpiredAnswer, ForeignAnswer, InvalidAnswer, UnknownAnswer

# kind, id, index in the request, version, number of the label, probability, Unix times (given, last to be judged), client, model
PAYLOAD = struct.Struct("<B16sIIIfII8s8s")
SIGNATURE_BYTES = 18  # of HMAC-SHA256; with the payload a multiple of 3, so that base64 needs no padding
CHARACTERS = (PAYLOAD.size + SIGNATURE_BYTES) * 4 // 3
KIND, UNSURE = 2, 1  # the kind of token; one bit of it says that the answer was unsure


class SignedAnswer(Struct, frozen=True):
    """An answer that was given. id: of its request, 32 hex digits; index: of the image in it. label: the number of its class.
    at, until: when it was given, and how long feedback on it is taken, Unix time. client, model: hashes of their names."""

    id: str
    index: int
    version: int
    label: int
    probability: float
    unsure: bool
    at: int
    until: int
    client: bytes
    model: bytes

    def is_recent(self, seconds: float) -> bool:
        """Whether it was given within so many seconds."""
        return time.time() - self.at <= seconds


class AnswerTokens:
    """keys: the first signs, all of them verify. model: its name. seconds: for which feedback on an answer is taken."""

    def __init__(self, keys: Sequence[bytes], model: str, seconds: float) -> None:
        self.keys = tuple(keys)
        self.model = model
        self.seconds = seconds

    def sign(self, client: str, answer_id: str, index: int, version: int, label: int, probability: float, unsure: bool) -> str:
        """client: the name of its key, or nothing."""
        now = int(time.time())
        until = now + int(self.seconds)
        head = (KIND | UNSURE * unsure, bytes.fromhex(answer_id), index, version, label, probability, now, until)
        payload = PAYLOAD.pack(*head, _hash(client), _hash(self.model))
        return urlsafe_b64encode(payload + _signature(self.keys[0], payload)).decode()

    def verify(self, client: str, token: str) -> SignedAnswer:
        """The answer, whenever it was given, where the token is whole and of this client and model.

        Raises InvalidAnswer, ForeignAnswer, UnknownAnswer.
        """
        data = _decode(token)
        payload, signature = data[: PAYLOAD.size], data[PAYLOAD.size :]
        matches = [hmac.compare_digest(_signature(key, payload), signature) for key in self.keys]  # all, however early one does
        if not any(matches):
            raise InvalidAnswer(
                "the answer is not one that this service has signed: a character of it was changed, or it was signed with "
                "another key than HUBEL_FEEDBACK_KEY_FILE holds now; send it as the service gave it"
            )
        answer = _unpack(payload)
        if answer.client != _hash(client):
            raise ForeignAnswer("the answer was given to another API key; send feedback with the key that asked")
        if answer.model != _hash(self.model):
            raise UnknownAnswer(f"the answer was given by another model than {self.model}, which this service has")
        return answer

    def verify_recent(self, client: str, token: str) -> SignedAnswer:
        """As ``verify``, where feedback on it is still taken. Raises ExpiredAnswer too."""
        answer = self.verify(client, token)
        if time.time() > answer.until:
            at, until = (datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds") for when in (answer.at, answer.until))
            raise ExpiredAnswer(
                f"the answer was given at {at}, and feedback on it was taken until {until} (HUBEL_FEEDBACK_EXPIRY_DAYS); "
                "send feedback sooner"
            )
        return answer


def read_id(token: str) -> str:
    """The id in a token, whoever signed it. Raises InvalidAnswer where it is none."""
    return _unpack(_decode(token)[: PAYLOAD.size]).id


def _decode(token: str) -> bytes:
    """Payload and signature, in full; its length is looked at first. Raises InvalidAnswer."""
    if len(token) != CHARACTERS:
        raise InvalidAnswer(f"the answer has {len(token)} characters, those of this service have {CHARACTERS}; send all of it")
    try:
        data = urlsafe_b64decode(token)
    except (ValueError, binascii.Error) as err:
        raise InvalidAnswer("the answer is not base64url; send it as the service gave it") from err
    if len(data) != PAYLOAD.size + SIGNATURE_BYTES or data[0] & ~UNSURE != KIND:
        raise InvalidAnswer("the answer is none of this service; send it as the service gave it")
    return data


def _unpack(payload: bytes) -> SignedAnswer:
    kind, answer_id, index, version, label, probability, at, until, client, model = PAYLOAD.unpack(payload)
    return SignedAnswer(answer_id.hex(), index, version, label, probability, bool(kind & UNSURE), at, until, client, model)


def _signature(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, payload, "sha256")[:SIGNATURE_BYTES]


@lru_cache(1024)
def _hash(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=8).digest()
