"""Logins at devices: a user with a password, or a token, each given directly or by a file that holds it alone.

Secrets are read at their use, so that a changed file counts at once, and never appear in a message or a representation.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from pusher.sources import SourceError
from schemas.document import Part

__all__ = ["PasswordLogin", "Secret", "SecretFile", "TokenLogin", "secret_from"]

_SECRET_LIMIT = 10_000
Secret = Annotated[SecretStr, Field(min_length=1)]
SecretFile = Annotated[str, Field(min_length=1)]


def secret_from(given: SecretStr | None, file: str | None) -> str:
    """The secret, from its file if there is one; raises SourceError if that cannot be read."""
    if file is None:
        return given.get_secret_value() if given else ""
    try:
        with Path(file).open(encoding="utf-8") as opened:
            secret = opened.read(_SECRET_LIMIT).strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SourceError(f'the secret in "{file}" cannot be read: {reason}') from error
    if not secret:
        raise SourceError(f'"{file}" is empty; it should hold the secret')
    return secret


class PasswordLogin(Part):
    """A user and a password."""

    user: str = Field(min_length=1)
    password: Secret | None = None
    password_file: SecretFile | None = None

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if (self.password is None) == (self.password_file is None):
            raise ValueError('a login has either "password" or "password_file"')
        return self

    def secret(self) -> str:
        """The password; raises SourceError if its file cannot be read."""
        return secret_from(self.password, self.password_file)


class TokenLogin(Part):
    """A token."""

    token: Secret | None = None
    token_file: SecretFile | None = None

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if (self.token is None) == (self.token_file is None):
            raise ValueError('a login by token has either "token" or "token_file"')
        return self

    def secret(self) -> str:
        """The token; raises SourceError if its file cannot be read."""
        return secret_from(self.token, self.token_file)
