"""`init --print_keys`: fresh secrets for the Supabase of docker-compose.yml."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

GOOD_FOR: Final = timedelta(days=3650)
SECRET_LETTERS: Final = 40
GATEWAY: Final = "http://gateway:8000"


def compose_environment(*, now: datetime, new_secret: Callable[[int], str]) -> Mapping[str, str]:
    """What docker-compose.yml reads; `new_secret` makes that many letters of URL-safe text."""
    secret = new_secret(SECRET_LETTERS)
    return {
        "COMPOSE_PROFILES": "local",
        "SUPABASE_URL": GATEWAY,
        "SUPABASE_SERVICE_KEY": signed("service_role", secret, now=now),
        "ANON_KEY": signed("anon", secret, now=now),
        "JWT_SECRET": secret,
        "POSTGRES_PASSWORD": new_secret(SECRET_LETTERS),
        "ML_PIPELINE_MONITOR_TOKEN": new_secret(SECRET_LETTERS),
    }


def signed(role: str, secret: str, *, now: datetime) -> str:
    """A key of that role, as Supabase makes them: a JWT signed by HMAC-SHA256."""
    import jwt

    claims = {"iss": "supabase", "role": role, "iat": now, "exp": now + GOOD_FOR}
    return jwt.encode(claims, secret, algorithm="HS256")
