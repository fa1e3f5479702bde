"""Early stopping: which epoch's weights are kept, and when to give up.

An epoch is better than another if it is right more often on the validation images, or as often at a lower loss. Accuracy
comes first because it is what a classifier is chosen by: a loss rises with a few overconfident errors while the answers
still improve. Without patience every epoch counts as better, and the last one's weights are kept; but where a head was fitted at
once and the network fine-tuned from there, the better of them is.
"""

from collections.abc import Iterator
from pathlib import Path

from training.loop.checkpoint import Checkpoint


def improved(checkpoint: Checkpoint) -> bool:
    """Whether the last epoch is better than the one that is kept."""
    if not checkpoint.recipe.keeps_best or not checkpoint.kept_epoch:
        return True
    last, kept = checkpoint.history[-1], checkpoint.history[checkpoint.kept_epoch - 1]
    return _merit(last) > _merit(kept)


def is_over(checkpoint: Checkpoint) -> bool:
    """Whether so many epochs were no better that the run ends early."""
    patience = checkpoint.recipe.patience
    return 0 < patience <= checkpoint.epoch - checkpoint.kept_epoch


def outcome(checkpoint: Checkpoint, folder: Path) -> Iterator[str]:
    """What is said of a run that is over: why it ended and what is kept; nothing where the last is."""
    kept, patience = checkpoint.kept_epoch, checkpoint.recipe.patience
    if is_over(checkpoint):
        yield (
            f"stopped early after epoch {checkpoint.epoch}: none of the last {patience} was better than epoch {kept}, whose "
            f"weights are kept; to go on from them, begin another run with --start-from {folder}"
        )
    elif patience:
        yield f"the weights of epoch {kept}, the best, are kept"
    if checkpoint.recipe.fit == "both" and checkpoint.epoch > 1:
        fitted, tuned = checkpoint.history[0], max(checkpoint.history[1:], key=_merit)
        yield (
            f"{_told(fitted)} by the head fitted at once, {_told(tuned)} by fine-tuning: kept is "
            f"{'the head fitted at once' if kept == 1 else f'what epoch {kept} made'}"
        )


def _told(entry: dict[str, float]) -> str:
    return f"{100 * entry['validation_accuracy']:.1f} % of the validation images at a loss of {entry['validation_loss']:.3f}"


def _merit(entry: dict[str, float]) -> tuple[float, float]:
    return entry["validation_accuracy"], -entry["validation_loss"]
