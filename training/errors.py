"""What can go wrong in training and is not a fault of this code; ``str()`` names the thing and the way out.

TrainingError
    DataError        the images cannot be used as they are
    RecipeError      a recipe that cannot be followed
    CheckpointError  a checkpoint that is missing, damaged, of other images, or in the way
    DivergenceError  the loss is no longer a number
    TrackingError    the figures cannot be sent to where they should be drawn
    ExportError      the exported graph does not compute what the checkpoint does
    ReportError      the report cannot be made
    StorageError     a file cannot be written, as on a full disk
"""


class TrainingError(Exception):
    """Base of all below."""


class DataError(TrainingError):
    """Names the folder or file."""


class RecipeError(TrainingError):
    """Names the key, the value and what is allowed."""


class CheckpointError(TrainingError):
    """Names the path."""


class DivergenceError(TrainingError):
    """Names the epoch and the learning rate."""


class TrackingError(TrainingError):
    """Names the address, or what is missing."""


class ExportError(TrainingError):
    """Names the difference and the limit."""


class ReportError(TrainingError):
    """Names the cause and where more of it stands."""


class StorageError(TrainingError):
    """Names the place, the cause and the way out."""


def in_a_line(err: Exception) -> str:
    """An error that nothing here foresaw: its kind and its words."""
    return ": ".join(filter(None, (type(err).__name__, " ".join(str(err).split()))))
