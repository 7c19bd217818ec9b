"""Logins: what a user proves itself with after its password was right once. One login is one client, signed in.

Logging in is asked by somebody who is nobody yet, so these two operations are served without credentials, as the
principal ``anonymous``. Afterwards a login belongs to its user like a key pair.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, SecretStr

from actions.entities.user import Password
from actions.model import PERSONAL, SECRET, Input, Kept, Output, without_nul
from actions.query import DateTimeFilter, Filter, StringFilter, UUIDFilter
from actions.standard import Standard
from actions.vocabulary import DELETE, GET, PURGE, SEARCH, Alias, Controls, Entity, Operation, ScopeType

LOGIN = Entity("login", "logins")
AUTHORIZE = Operation("authorize", on_item=False)
REFRESH = Operation("refresh", on_item=False)
LOGOUT = Operation("logout", on_item=False)


class LoginForm(StrEnum):
    """What is wanted: tokens alone, or beside them a key pair, in the form of the original system."""

    TOKEN = "token"  # noqa: S105
    KEYPAIR = "keypair"


def _short(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) > 1024:
        raise ValueError("is longer than 1024 characters")
    return secret


Short = Annotated[SecretStr, AfterValidator(_short)]
Claimed = Annotated[str, Field(min_length=1, max_length=254), AfterValidator(without_nul)]
_WITHOUT_EFFECT = "Taken from clients of the original system, and without effect."


class Login(Kept):
    user_id: UUID
    expires_at: datetime
    refreshed_at: datetime
    client_address: Annotated[str, PERSONAL] = Field(description="Where it was made from.")


class Authorization(Input):
    type: LoginForm = LoginForm.TOKEN
    domain: Annotated[Claimed, PERSONAL] = "default"
    username: Annotated[Claimed, PERSONAL] = Field(description="The user's name or e-mail address.")
    password: Short
    new_password: Password | None = Field(default=None, description="Replaces the password in the same step.")
    stoken: Short | None = Field(default=None, description=_WITHOUT_EFFECT)
    otp: Short | None = Field(default=None, description=_WITHOUT_EFFECT)
    client_type_id: Annotated[Annotated[str, Field(max_length=64)] | None, PERSONAL] = Field(
        default=None, description=_WITHOUT_EFFECT
    )
    force: bool | None = Field(default=None, description=_WITHOUT_EFFECT)


class Refreshing(Input):
    refresh_token: Short


class KeypairGrant(Output):
    """What the original system answers to a log-in."""

    response_type: str = "success"
    type: str = "keypair"
    user_id: UUID
    access_key: str
    secret_key: Annotated[str, SECRET] = Field(repr=False)
    role: str = Field(description="superadmin, admin or user: made of the role bindings of the moment.")
    status: str
    session_token: Annotated[str, SECRET] = Field(repr=False, description="The access token.")


class Tokens(Output):
    """``expires_in`` and ``refresh_expires_in`` are seconds from now."""

    access_token: Annotated[str, SECRET] = Field(repr=False)
    token_type: str = "Bearer"  # noqa: S105
    expires_in: int
    refresh_token: Annotated[str, SECRET] = Field(repr=False, description="Good for one use.")
    refresh_expires_in: int
    login_id: UUID
    user_id: UUID
    data: KeypairGrant | None = Field(default=None, description="Only when a key pair was asked for.")


class LoginFilter(Filter):
    id: UUIDFilter | None = None
    user_id: UUIDFilter | None = None
    client_address: StringFilter | None = None
    expires_at: DateTimeFilter | None = None
    refreshed_at: DateTimeFilter | None = None
    created_at: DateTimeFilter | None = None
    updated_at: DateTimeFilter | None = None


LOGINS = Standard(LOGIN, Login, filter=LoginFilter, orders=("created_at", "updated_at", "expires_at", "refreshed_at"))
TAKES_OVER = Controls()
"""Ending a login shuts its user out."""
A, D, U = ScopeType.ADMIN, ScopeType.DOMAIN, ScopeType.USER

SPECS = (
    *LOGINS.offer(
        AUTHORIZE,
        A,
        input=Authorization,
        output=Tokens,
        anonymous=True,
        aliases=(Alias("POST", "/auth/authorize"),),
        sentence="Log in with a name and a password; the answer is a bearer token.",
    ),
    *LOGINS.offer(
        REFRESH,
        A,
        input=Refreshing,
        output=Tokens,
        anonymous=True,
        aliases=(Alias("POST", "/auth/refresh"),),
        sentence="Exchange a refresh token, once, for a new bearer token.",
    ),
    *LOGINS.offer(GET, A, D, U),
    *LOGINS.offer(SEARCH, A, D, U),
    *LOGINS.offer(DELETE, A, D, U, controls=TAKES_OVER, sentence="End a login {where}; its tokens stop at once."),
    *LOGINS.offer(PURGE, A, D, U, controls=TAKES_OVER),
    *LOGINS.offer(
        LOGOUT,
        U,
        controls=TAKES_OVER,
        aliases=(Alias("POST", "/auth/logout"),),
        sentence="End the login that the request itself was made with.",
    ),
)
