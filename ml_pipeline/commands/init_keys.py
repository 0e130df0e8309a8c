"""`init --print-keys`: fresh secrets for the Supabase of docker-compose.yml."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from ml_pipeline.errors import ConfigError
from ml_pipeline.private_files import for_owner_alone

GOOD_FOR: Final = timedelta(days=3650)
SECRET_LETTERS: Final = 40
GATEWAY: Final = "http://gateway:8000"
# The same port as seen from outside of the containers.
PUBLIC_GATEWAY: Final = "http://127.0.0.1:54321"


def compose_environment(*, now: datetime, new_secret: Callable[[int], str]) -> Mapping[str, str]:
    """What docker-compose.yml reads; `new_secret` makes that many letters of URL-safe text."""
    secret = new_secret(SECRET_LETTERS)
    return {
        "COMPOSE_PROFILES": "local,serve",
        "SUPABASE_URL": GATEWAY,
        "SUPABASE_PUBLIC_URL": PUBLIC_GATEWAY,
        "SUPABASE_SERVICE_KEY": signed("service_role", secret, now=now),
        "ANON_KEY": signed("anon", secret, now=now),
        "JWT_SECRET": secret,
        "POSTGRES_PASSWORD": new_secret(SECRET_LETTERS),
        "ML_PIPELINE_MONITOR_TOKEN": new_secret(SECRET_LETTERS),
        "ML_PIPELINE_SERVE_TOKEN": new_secret(SECRET_LETTERS),
    }


def signed(role: str, secret: str, *, now: datetime) -> str:
    """A key of that role, as Supabase makes them: a JWT signed by HMAC-SHA256."""
    import jwt

    claims = {"iss": "supabase", "role": role, "iat": now, "exp": now + GOOD_FOR}
    return jwt.encode(claims, secret, algorithm="HS256")


def write(text: str, path: Path) -> None:
    """Write a new file for its owner alone. Raises ConfigError when it is there already.

    The database keeps the password of its first start, and applications keep the keys: other ones
    in their place would lock everybody out.
    """
    try:
        with for_owner_alone(), path.open("x", encoding="utf-8") as file, _whole_or_gone(path):
            file.write(text)
            file.flush()
    except FileExistsError as error:
        message = f"{path} is there already, and keys in use are never replaced."
        hint = "Go on with that file. A new stack has an .env in a folder of its own."
        raise ConfigError(message, hint=hint) from error
    except OSError as error:
        message = f"{path}: {error.strerror or error}."
        raise ConfigError(message, hint="Name a file in a folder you may write to.") from error


@contextmanager
def _whole_or_gone(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        path.unlink()
        raise
