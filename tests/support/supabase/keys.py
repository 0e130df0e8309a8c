"""The keys of the project's project: JWTs of both styles, and tokens of signed-in users."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt

HOUR = 3600
TEN_YEARS = 10 * 365 * 24 * HOUR


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyRing:
    """What the project's settings page would show."""

    jwt_secret: str
    anon: str
    service: str
    publishable: str
    secret: str

    @classmethod
    def cut(cls) -> KeyRing:
        jwt_secret = "a secret of the project, long enough for HS256"
        return cls(
            jwt_secret=jwt_secret,
            anon=_sign({"role": "anon"}, jwt_secret, TEN_YEARS),
            service=_sign({"role": "service_role"}, jwt_secret, TEN_YEARS),
            publishable="sb_publishable_bench",
            secret="sb_secret_bench",
        )

    def user_token(
        self, user_id: UUID | str, *, seconds: int = HOUR, email: str | None = None
    ) -> str:
        """Sign what a person gets who signs in."""
        who: dict[str, Any] = {
            "sub": str(user_id),
            "role": "authenticated",
            "aud": "authenticated",
            "email": email,
        }
        return _sign(who, self.jwt_secret, seconds)

    def expired(self, token: str) -> str:
        """Sign the same claims as of an hour ago."""
        return _sign(self.claims(token), self.jwt_secret, -HOUR)

    def claims(self, token: str) -> dict[str, Any]:
        """Verify a token; raises jwt.InvalidTokenError."""
        options: Any = {"verify_aud": False}
        found: dict[str, Any] = jwt.decode(
            token, self.jwt_secret, algorithms=["HS256"], options=options
        )
        return found

    def knows(self, api_key: str) -> bool:
        return api_key in {self.anon, self.service, self.publishable, self.secret}

    def authorization(self, api_key: str, given: str | None) -> str | None:
        """Return the Authorization header to forward.

        Keys of the new style are no JWTs: the hosted gateway puts the role's own in their place,
        unless the caller is a signed-in user.
        """
        minted = {self.publishable: self.anon, self.secret: self.service}.get(api_key)
        if minted is not None and given in {None, f"Bearer {api_key}"}:
            return f"Bearer {minted}"
        return given


def _sign(claims: Mapping[str, Any], secret: str, seconds: int) -> str:
    now = int(time.time())
    stamped = {"iss": "supabase", **claims, "iat": min(now, now + seconds), "exp": now + seconds}
    return jwt.encode(stamped, secret, algorithm="HS256")
