"""Keys, and the file that lets them in."""

import hashlib

SECRET = "k3y-of-web"
OTHER_SECRET = "k3y-of-cron"


def entry(name: str = "web", secret: str = SECRET, **more: str) -> dict[str, str]:
    return {"name": name, "sha256": hashlib.sha256(secret.encode()).hexdigest(), **more}


def toml(*entries: dict[str, str]) -> str:
    return "".join("[[keys]]\n" + "".join(f'{field} = "{value}"\n' for field, value in each.items()) for each in entries)
