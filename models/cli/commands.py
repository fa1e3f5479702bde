"""What each command of hubel models does: arguments -> rows for programs, and these as text for people."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from models.cli import views
from models.cli.views import Row
from models.errors import PackageError
from models.lifecycle import candidate, promotion, rename, retention
from models.lifecycle.candidate import Bounds, Candidate, Mode
from models.lifecycle.gate import Gate, GateRequest
from models.lifecycle.rules import Rules
from models.package import manifest as manifests
from models.package import signature
from models.registry import archive, history, locations, registry, transfer
from models.registry.history import MAX_REASON, Pointer
from models.terminal import program
from models.terminal.table import lines, printable, table


def run_list(args: Namespace) -> list[Row]:
    return views.packages(args.store)


def show_list(rows: Sequence[Row]) -> str:
    left_out = {"in_service"} | (set() if any(row["fault"] for row in rows) else {"fault"})
    return table([{key: value for key, value in row.items() if key not in left_out} for row in rows])


def run_show(args: Namespace) -> list[Row]:
    return [views.package(args.store, registry.resolve(args.store, args.model))]


def show_package(rows: Sequence[Row]) -> str:
    (row,) = rows
    facts = [{"": key, " ": _flat(value)} for key, value in row.items() if key not in ("gate", "history")]
    parts = [table(facts).lstrip("\n")]
    if row["gate"] is not None:
        parts.append(show_gate(msgspec.convert(row["gate"], Gate)))
    return "\n\n".join([*parts, show_history(row["history"])])


def _flat(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def show_gate(gate: Gate) -> str:
    """The verdict as a table."""
    outcome = "passed" if gate.passed else "forced past" if gate.forced else "refused"
    head = printable(f"gate of {gate.model}: {outcome}, {gate.at:%Y-%m-%d %H:%M} by {gate.by}")
    rows = table([msgspec.to_builtins(check) for check in gate.checks])
    compared = printable(f"compared with {gate.rival or 'none'}: {gate.compared}")
    return f"{head}\n{compared}\n{rows}"


def show_history(changes: Sequence[Row]) -> str:
    keys = ("at", "event", "version", "before", "by", "forced", "reason")
    rows = [{key: change.get(key) for key in keys} | {"at": change["at"][:19]} for change in changes]
    return "history\n" + (table(rows) or "none is kept")


def run_diff(args: Namespace) -> list[Row]:
    first, second = (registry.resolve(args.store, model) for model in (args.first, args.second))
    return [views.difference(args.store, first, second)]


def show_diff(rows: Sequence[Row]) -> str:
    (row,) = rows
    changed = {kind: _flat(value) for kind, value in row["classes"].items() if value}
    figures = [{"": key, row["from"]: v["from"], row["to"]: v["to"], "change": v["change"]} for key, v in row["figures"].items()]
    worst = sorted(row["recall"].items(), key=lambda item: item[1]["change"])
    recall = [{"recall": label, row["from"]: v["from"], row["to"]: v["to"], "change": v["change"]} for label, v in worst]
    classes = "\n".join(printable(f"classes {kind}: {value}") for kind, value in changed.items()) or "the same classes"
    return "\n\n".join(part for part in (classes, table(figures).lstrip("\n"), table(recall)) if part)


def run_verify(args: Namespace) -> list[Row]:
    if args.model:
        return [views.verified(registry.resolve(args.store, args.model), args.key)]
    return views.all_verified(args.store, args.key)


def show_verified(rows: Sequence[Row]) -> str:
    return lines([{key: value for key, value in row.items() if value is not None} for row in rows])


def run_promote(args: Namespace) -> list[Row]:
    folder = registry.resolve(args.store, args.model)
    name, version = folder.parent.name, int(folder.name)
    rules = Rules(args.margin, args.strict, args.calibration, args.recall, args.speed, args.memory)
    question = GateRequest(rules, args.data, args.classes_change, args.key, args.seconds)
    trial = _candidate(args, version)
    verdict = promotion.promote(args.store, name, version, question, _reason(args), args.force, trial)
    row = {"model": name, "version": version, **_in_service(registry.pointer(args.store, name))}
    if trial is not None:
        row |= {"candidate": trial.mode, "percent": trial.percent, "requests": trial.requests}
    return [row | {"gate": msgspec.to_builtins(verdict)}]


def _reason(args: Namespace) -> str:
    if len(args.reason) > MAX_REASON:
        raise PackageError(f"the reason has {len(args.reason)} characters, at most {MAX_REASON} are kept; shorten it")
    return args.reason


def _in_service(pointer: Pointer | None) -> Row:
    return {} if pointer is None else {"in_service": pointer.version, "before": pointer.before}


def _candidate(args: Namespace, version: int) -> Candidate | None:
    """What --shadow or --canary ask for."""
    if not args.shadow and args.canary is None:
        return None
    mode: Mode = "shadow" if args.shadow else "canary"
    percent = args.percent if args.shadow else args.canary
    bounds: dict[str, float] = {field: getattr(args, f"max_{field}") for field in Bounds.__struct_fields__}
    fields: dict[str, Any] = {"version": version, "mode": mode, "percent": percent, "requests": args.requests}
    more = {"bounds": bounds, "by": history.who(), "reason": _reason(args)}
    try:
        return msgspec.convert(fields | more, Candidate)
    except msgspec.ValidationError as err:
        raise PackageError(f"there can be no such candidate: {err}") from err


def show_promotion(rows: Sequence[Row]) -> str:
    (row,) = rows
    gate = msgspec.convert(row["gate"], Gate)
    return f"{show_gate(gate)}\n\n{lines([{key: value for key, value in row.items() if key != 'gate'}])}"


def run_rollback(args: Namespace) -> list[Row]:
    pointer = promotion.roll_back(args.store, args.name, _reason(args))
    return [{"model": args.name, "version": pointer.version, "before": pointer.before}]


def run_end(args: Namespace) -> list[Row]:
    pointer = candidate.end(args.store, args.name, False, _reason(args))
    return [{"model": args.name, "in_service": pointer.version, "candidate": None}]


def run_retire(args: Namespace) -> list[Row]:
    folder = registry.resolve(args.store, args.model)
    pointer = retention.retire(args.store, folder.parent.name, int(folder.name), _reason(args), args.force)
    return [{"model": folder.parent.name, "retired": pointer.retired, "in_service": pointer.version}]


def run_rename(args: Namespace) -> list[Row]:
    folder = registry.resolve(args.store, args.model)
    made = rename.rename(args.store, folder, args.old, args.new, _reason(args))
    where = () if args.store == registry.STORE else ("--store", args.store)
    promoting = ("promote", made.id, "--classes-change", f"{args.old} is called {args.new}", *where)
    row = {"model": made.id, "from": f"{folder.parent.name}:{folder.name}", "renamed": args.old, "to": args.new}
    row |= {"sign": program.command("models", "sign", made.id, "--key", "KEY", *where)} if signature.path(folder).exists() else {}
    return [row | {"promote": program.command("models", *promoting)}]


def run_gc(args: Namespace) -> list[Row]:
    names = [args.name] if args.name else registry.names(args.store)
    found = [removed for name in names for removed in retention.collect(args.store, name, args.keep, args.dry_run)]
    found += retention.sweep(args.store, args.dry_run)
    return [{"removed": not args.dry_run, **removed._asdict()} for removed in found]


def show_gc(rows: Sequence[Row]) -> str:
    return table(rows) or "there is nothing to remove"


def run_sign(args: Namespace) -> list[Row]:
    folder = registry.resolve(args.store, args.model)
    data = manifests.read_bytes(folder)
    manifest = registry.verify(folder)
    if manifests.decode(folder, data) != manifest:
        raise PackageError(f"the manifest of {manifest.id} was exchanged while it was checked; nothing was signed, look again")
    signature.sign(folder, data, args.key)
    return [{"model": manifest.id, "signature": str(signature.path(folder))}]


def run_pack(args: Namespace) -> list[Row]:
    folder = registry.resolve(args.store, args.model)
    archive.pack(folder, args.file)
    return [{"model": f"{folder.parent.name}:{folder.name}", "file": str(args.file), "bytes": args.file.stat().st_size}]


def run_unpack(args: Namespace) -> list[Row]:
    return [_arrived(args.store, archive.unpack(args.store, args.file, args.key).id)]


def run_pull(args: Namespace) -> list[Row]:
    root, name, version = _split(args.source)
    return [_arrived(args.store, transfer.pull(args.store, locations.find(root), name, version, args.key, args.seconds).id)]


def _split(source: str) -> tuple[str, str, int]:
    """PLACE/NAME/VERSION -> these three."""
    rest, _, version = source.rstrip("/").rpartition("/")
    root, _, name = rest.rpartition("/")
    if not registry.NAME.fullmatch(name) or not registry.VERSION.fullmatch(version):
        raise PackageError(f"{source} names no package; give its folder or address with name and version at the end: …/cifar10/2")
    return root or (Path("/").as_posix() if rest.startswith("/") else "."), name, int(version)


def _arrived(store: Path, model: str) -> Row:
    name, _, version = model.partition(":")
    pointer = registry.pointer(store, name)
    return {"model": model, "in_service": pointer is not None and pointer.version == int(version)}


def run_push(args: Namespace) -> list[Row]:
    folder = registry.resolve(args.store, args.model)
    manifest = transfer.push(folder, locations.find(args.target))
    return [{"model": manifest.id, "target": f"{args.target.rstrip('/')}/{manifest.name}/{manifest.version}"}]
