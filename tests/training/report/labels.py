"""What was gathered for a report, with other classes."""

from typing import Any


def with_labels(content: dict[str, Any], labels: list[str]) -> dict[str, Any]:
    """The same with other classes, all of them confused once with the next one."""
    n = len(labels)
    matrix = [[3 * (a == c) + (a == (c + 1) % n) for a in range(n)] for c in range(n)]
    rows = [{"label": name, "precision": 0.75, "recall": 0.75, "f1": 0.75, "support": 4} for name in labels]
    pairs = [{"label": a, "answer": b, "count": 1, "share": 0.25} for a, b in zip(labels, [*labels[1:], labels[0]], strict=True)]
    return content | {
        "run": content["run"] | {"classes": labels},
        "evaluation": content["evaluation"] | {"classes": rows, "confusion": matrix},
        "confused": pairs,
    }
