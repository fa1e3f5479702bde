"""What is written of one image."""

from msgspec import Struct

from models.package.prediction import Classification
from service.bulk.errors import Failure


class Row(Struct, omit_defaults=True):
    """Its likeliest class, or the code and the text of what is wrong with it. novelty: where the package has it. copy: where it
    was copied to."""

    path: str
    label: str | None = None
    probability: float | None = None
    unsure: bool | None = None
    novelty: float | None = None
    error: str | None = None
    detail: str | None = None
    copy: str | None = None


def row_of(path: str, result: Classification | Failure) -> Row:
    if isinstance(result, Failure):
        return Row(path, error=result.code, detail=result.detail)
    return Row(path, result.label, result.probability, result.unsure, result.novelty)
