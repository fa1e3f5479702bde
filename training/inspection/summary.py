"""What an inspection found, as plain values for JSON, and as a table for a terminal."""

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import numpy as np

from training.data.sources.source import NAMED, first_of_each
from training.inspection import recipe_choice
from training.inspection.facts import Look
from training.inspection.findings import Finding, counted, imbalance

MOST_ROWS = 40  # of the table of classes
LOOKED_FOR = (
    "classes without images or called alike, files that cannot be decoded, copies and near copies within and between splits "
    "and labels, images of one colour, dark, of 12 bits in 16, bright, blurred, tiny, long, or grey among coloured ones"
)


def summarise(title: str, look: Look, findings: Sequence[Finding]) -> dict[str, Any]:
    """Counts, sizes, formats, findings and the recipe that fits; all names can be printed. Lengths in pixels."""
    choice = recipe_choice.choose(look.source)
    return {
        "data": title,
        "folder": shared_folder([item.name for item in look.items]),
        "images": len(look),
        "classes": counts(look),
        "imbalance": round(imbalance(look), 2),
        "shorter_side": _spread([min(facts.width, facts.height) for facts in look.facts]),
        "aspect_ratio": _spread([max(f.width, f.height) / min(f.width, f.height) for f in look.facts]),
        "formats": dict(Counter(facts.format for facts in look.facts).most_common()),
        "grey": sum(not facts.coloured for facts in look.facts),
        "turned_by_exif": sum(facts.turned for facts in look.facts),
        "recipe": choice.recipe,
        "recipe_reason": choice.said,
        "left_out": sum(map(len, look.left_out.values())),
        "errors": [_plain(look, finding) for finding in findings if finding.level == "error"],
        "warnings": [_plain(look, finding) for finding in findings if finding.level == "warning"],
    }


def counts(look: Look) -> dict[str, dict[str, int]]:
    """Usable images by class and split; classes in their order, then those that are not trained on."""
    parts = look.source.parts
    found = Counter(zip((item.label for item in look.items), look.splits, strict=True))
    names = dict.fromkeys(name for part in parts.values() for name in part.classes)
    return {name: {split: found[name, split] for split in parts} for name in names}


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Least, median and greatest."""
    if not values:
        return {}
    return {"min": round(min(values), 2), "median": round(float(np.median(values)), 2), "max": round(max(values), 2)}


def _plain(look: Look, finding: Finding) -> dict[str, Any]:
    groups = [{"images": [named(look, i) for i in group], "note": note} for group, note in finding.groups]
    return {
        "kind": finding.kind,
        "title": finding.title,
        "advice": finding.advice,
        "groups": groups,
        "lines": list(finding.lines),
    }


def named(look: Look, i: int) -> dict[str, str]:
    return {"name": look.items[i].name, "split": look.splits[i], "label": look.items[i].label}


def shared_folder(names: Sequence[str]) -> str:
    """The folder that all names begin with, up to its slash; short names are the rest."""
    pairs = zip(min(names, default=""), max(names, default=""), strict=False)
    prefix = "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return prefix[: prefix.rfind("/") + 1]


def table(summary: dict[str, Any]) -> str:
    """The summary for a terminal: counts, then what was found, the first of each kind."""
    size = f"{counted(summary['images'], 'image')} in {counted(len(summary['classes']), 'class', 'classes')}"
    lines = [f"{summary['data']}: {size}", "", *_count_rows(summary["classes"])]
    if summary["images"]:
        lines += ["", *_measures(summary)]
    for level in ("errors", "warnings"):
        for finding in summary[level]:
            lines += ["", *_finding(level.removesuffix("s"), finding, summary["folder"])]
    if not summary["errors"] and not summary["warnings"]:
        lines += ["", f"nothing to report; looked for {LOOKED_FOR}"]
    return "\n".join(lines)


def _measures(summary: dict[str, Any]) -> list[str]:
    side, ratio = summary["shorter_side"], summary["aspect_ratio"]
    formats = ", ".join(f"{n} {name.upper()}" for name, n in summary["formats"].items())
    return [
        f"shorter side  {side['min']:g} to {side['max']:g} pixels, median {side['median']:g}",
        f"longer side   {ratio['min']:g} to {ratio['max']:g} times the shorter one, median {ratio['median']:g}",
        f"formats       {formats}; {summary['grey']} grey, {summary['turned_by_exif']} turned by EXIF",
        f"balance       the largest class has {summary['imbalance']:g} times the training images of the smallest",
        f"training      {summary['recipe_reason']}",
    ]


def _count_rows(classes: dict[str, dict[str, int]]) -> list[str]:
    splits = list(next(iter(classes.values()), {}))
    rows = [["class", *splits]] + [[name, *map(str, found.values())] for name, found in classes.items()]
    if len(classes) > MOST_ROWS:
        rows[1 + MOST_ROWS // 2 : -MOST_ROWS // 2] = [[f"({len(classes) - MOST_ROWS} more)", *("" for _ in splits)]]
    rows.append(["all", *(str(sum(found[split] for found in classes.values())) for split in splits)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _finding(level: str, finding: dict[str, Any], folder: str) -> list[str]:
    lines = [f"{level}: {finding['title']}", f"  {finding['advice']}."]
    for group in finding["groups"][:NAMED]:
        names = [f"{image['name'].removeprefix(folder)} ({image['split']}, {image['label']})" for image in group["images"]]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        lines.append(f"  - {', '.join(names[:NAMED])}{more}: {group['note']}")
    if len(finding["groups"]) > NAMED:
        lines.append(f"  - {len(finding['groups']) - NAMED} more")
    listed = finding["lines"]
    if finding["kind"] == "left-out":
        listed = first_of_each(listed)
    elif len(listed) > NAMED:
        listed = [*listed[:NAMED], f"{len(listed) - NAMED} more"]
    return [*lines, *(f"  - {line}" for line in listed)]
