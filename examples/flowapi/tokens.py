"""Issue tokens like FlowAuth, and check them like FlowAPI."""

import base64
import datetime
import gzip
import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from examples.flowapi.answers import Refusal

_AUDIENCE: Final = "example-flowapi"
_ISSUER: Final = "example-flowauth"


def flows_scopes(unit: str) -> frozenset[str]:
    """Return the scopes for the available dates, and for flows and the geography of `unit`."""
    actions = {"get_available_dates", "run", "get_result"}
    kinds = ("flows", "modal_location", "daily_location")
    return frozenset(actions | {f"{unit}:flows:{kind}" for kind in kinds} | {f"{unit}:geography:geography"})


EXAMPLE_SCOPES: Final = flows_scopes("admin2")
"""The scopes that the example's notebooks need, and no others."""


class Mint:
    """Issues and checks tokens with its own RSA key."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._strangers_key: rsa.RSAPrivateKey | None = None

    def token(
        self,
        *,
        user: str,
        roles: Mapping[str, Iterable[str]],
        expires_in: datetime.timedelta,
        forged: bool = False,
    ) -> str:
        """Return a token with the scopes of each role; with a negative `expires_in`, it has expired already.

        A `forged` one is signed with a key that is not FlowAPI's.
        """
        now = datetime.datetime.now(tz=datetime.UTC)
        claims = {
            "iat": min(now, now + expires_in),
            "nbf": min(now, now + expires_in),
            "jti": str(uuid.uuid4()),
            "exp": now + expires_in,
            "sub": user,
            "aud": _AUDIENCE,
            "iss": _ISSUER,
            "user_claims": _packed({role: sorted(scopes) for role, scopes in roles.items()}),
        }
        return jwt.encode(claims, self._stranger() if forged else self._key, algorithm="RS256")

    def roles(self, authorization: str | None) -> dict[str, set[str]]:
        """Return the scopes of each role of the token in an Authorization header.

        Raises
        ------
        Refusal
            With FlowAPI's answer, if the token is missing or not valid.

        """
        if authorization is None:
            raise Refusal(401, {"msg": "Missing Authorization Header"})
        scheme, _, token = authorization.partition(" ")
        if scheme != "Bearer" or not token or " " in token:
            raise Refusal(422, {"msg": "Bad Authorization header. Expected value 'Bearer <JWT>'"})
        try:
            claims = jwt.decode(token, self._key.public_key(), algorithms=["RS256"], audience=_AUDIENCE)
            return {role: set(scopes) for role, scopes in _unpacked(claims["user_claims"]).items()}
        except jwt.ExpiredSignatureError as error:
            raise Refusal(401, {"msg": "Token has expired"}) from error
        except jwt.InvalidTokenError as error:
            raise Refusal(422, {"msg": str(error)}) from error

    def _stranger(self) -> rsa.RSAPrivateKey:
        self._strangers_key = self._strangers_key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return self._strangers_key


def _packed(roles: Mapping[str, list[str]]) -> str:
    return base64.encodebytes(gzip.compress(json.dumps(roles).encode())).decode()


def _unpacked(claims: str) -> dict[str, list[str]]:
    roles: dict[str, Any] = json.loads(gzip.decompress(base64.decodebytes(claims.encode())))
    return roles
