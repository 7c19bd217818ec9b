"""Users: the people, each in one domain for good. A user is a scope of its own, in which it holds the role *owner*.

There is no role column: which roles a user holds is answered by role bindings alone.
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, SecretStr, StringConstraints

from actions.addresses import check_pattern
from actions.model import PERSONAL, Input, Kept, Name, Output, Shown, Text, Unsaid, without_nul
from actions.query import BooleanFilter, DateTimeFilter, EnumFilter, Filter, Page, StringFilter, UUIDFilter
from actions.standard import Standard
from actions.vocabulary import (
    CREATE,
    DELETE,
    GET,
    PURGE,
    RESTORE,
    SEARCH,
    UPDATE,
    Alias,
    Controls,
    Entity,
    Operation,
    ScopeType,
    Use,
)

USER = Entity("user", "users", scope=ScopeType.USER)
CHANGE_PASSWORD = Operation("change_password")
RESET_PASSWORD = Operation("reset_password")
WHOAMI = Operation("whoami", reads=True)
CHECK = Operation("check", reads=True)
LOOKUP = Operation("lookup", on_item=False, reads=True)


class UserStatus(StrEnum):
    """``deleted`` is not among them: soft deletion is a mark of its own, so that restoring finds the old status."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    BEFORE_VERIFICATION = "before-verification"


_EMAIL = r"^[!-?A-~]+@[!-?A-~]*\.[!-?A-~]*$"
"""Visible ASCII. A host of another script is written as DNS has it, ``xn--...``: no two addresses look the same."""
_SHORTEST, _LONGEST = 10, 256


def _email(text: str) -> str:
    if not re.fullmatch(_EMAIL, text):
        raise ValueError("is not an e-mail address")
    return text


def _password(secret: SecretStr) -> SecretStr:
    if not _SHORTEST <= len(secret.get_secret_value()) <= _LONGEST:
        raise ValueError(f"a password has {_SHORTEST} to {_LONGEST} characters")
    return secret


Email = Annotated[str, StringConstraints(max_length=254), AfterValidator(_email), Shown(pattern=_EMAIL)]
Password = Annotated[SecretStr, AfterValidator(_password), Shown(minLength=_SHORTEST, maxLength=_LONGEST)]
Known = Annotated[
    str, StringConstraints(min_length=1, max_length=254), AfterValidator(without_nul), Shown(pattern=r"^[^\x00]*$")
]
AddressPattern = Annotated[
    str, StringConstraints(max_length=64), AfterValidator(check_pattern), Shown(format="address-pattern")
]
AddressPatterns = Annotated[list[AddressPattern], Field(max_length=64)]
"""IPv4 or IPv6 addresses, networks, or wildcards like ``10.1.*.*``; an empty list allows every address."""


class User(Kept):
    username: Annotated[str, PERSONAL]
    email: Annotated[str, PERSONAL]
    full_name: Annotated[str, PERSONAL]
    description: Annotated[str, PERSONAL] = Field(description="What users say of themselves.")
    domain_id: UUID
    status: UserStatus
    need_password_change: bool
    password_changed_at: datetime
    allowed_client_ip: Annotated[list[str], PERSONAL]
    sudo_session_enabled: bool


class Colleague(Output):
    """What the people of a domain learn of each other."""

    id: UUID
    username: Annotated[str, PERSONAL]
    full_name: Annotated[str, PERSONAL]


class Participant(Colleague):
    """What those who take part in a project learn of each other."""

    status: UserStatus
    deleted: bool


class OwnChange(Input):
    """What users may change of themselves."""

    email: Annotated[Unsaid[Email], PERSONAL] = None
    full_name: Annotated[Unsaid[Text], PERSONAL] = None
    description: Annotated[Unsaid[Text], PERSONAL] = None
    allowed_client_ip: Annotated[Unsaid[AddressPatterns], PERSONAL] = None


class UserChange(OwnChange):
    username: Annotated[Unsaid[Name], PERSONAL] = None
    status: Unsaid[UserStatus] = None
    need_password_change: Unsaid[bool] = None
    sudo_session_enabled: Unsaid[bool] = None


class NewUser(Input):
    username: Annotated[Name, PERSONAL]
    email: Annotated[Email, PERSONAL]
    password: Password
    full_name: Annotated[Text, PERSONAL] = ""
    description: Annotated[Text, PERSONAL] = ""
    status: UserStatus = UserStatus.ACTIVE
    need_password_change: bool = False
    allowed_client_ip: Annotated[AddressPatterns, PERSONAL] = Field(default_factory=list)
    sudo_session_enabled: bool = False


class NewUserAnywhere(NewUser):
    domain_id: UUID


class PasswordChange(Input):
    old_password: SecretStr
    new_password: Password


class PasswordReset(Input):
    password: Password


class Lookup(Input):
    """One user by what is known of it."""

    known_as: Annotated[Known, PERSONAL] = Field(
        description="The whole user name, or the whole e-mail address in whatever case. No user name holds an @."
    )


class Echo(Input):
    echo: Annotated[str | None, Field(max_length=1024), PERSONAL] = None


class Authorized(Output):
    authorized: str = "yes"
    echo: str | None


class HeldRole(Output):
    role: str
    scope_type: ScopeType
    scope_id: UUID | None
    expires_at: datetime | None


class AllowedActions(Output):
    scope_type: ScopeType
    scope_id: UUID | None
    actions: list[str]


class Identity(Output):
    """The caller, the roles it holds now, and what they let it do in each scope where it holds one."""

    id: UUID
    username: Annotated[str, PERSONAL]
    access_key: str | None = Field(description="The key that signed the request.")
    login_id: UUID | None = Field(description="The login whose bearer token the request carried.")
    domain_id: UUID
    bindings: list[HeldRole]
    allowed: list[AllowedActions]


class ParticipantFilter(Filter):
    """By what a participant shows, and by nothing else: a filter tells as much as an output."""

    id: UUIDFilter | None = None
    username: StringFilter | None = None
    full_name: StringFilter | None = None
    status: EnumFilter[UserStatus] | None = None


class UserFilter(ParticipantFilter):
    email: StringFilter | None = None
    description: StringFilter | None = None
    domain_id: UUIDFilter | None = None
    need_password_change: BooleanFilter | None = None
    sudo_session_enabled: BooleanFilter | None = None
    created_at: DateTimeFilter | None = None
    updated_at: DateTimeFilter | None = None
    password_changed_at: DateTimeFilter | None = None


USERS = Standard(
    USER,
    User,
    NewUser,
    UserChange,
    UserFilter,
    ("created_at", "updated_at", "username", "email", "full_name", "status"),
    uses={"domain_id": Use("domain", "get")},
)
TAKES_OVER = Controls()
"""Any change of a user counts, so that nobody's account is altered by one who reaches less far."""
A, D, P, U = ScopeType.ADMIN, ScopeType.DOMAIN, ScopeType.PROJECT, ScopeType.USER

SPECS = (
    *USERS.offer(CREATE, A, input=NewUserAnywhere),
    *USERS.offer(CREATE, D),
    *USERS.offer(GET, A, D, U),
    *USERS.offer(GET, P, output=Participant),
    *USERS.offer(SEARCH, A, D),
    *USERS.offer(
        SEARCH,
        P,
        output=Page[Participant],
        filter=ParticipantFilter,
        orders=("username", "full_name", "status"),
    ),
    *USERS.offer(
        LOOKUP,
        A,
        D,
        input=Lookup,
        output=Colleague,
        sentence="Find a user {where} by an exact name or e-mail address.",
    ),
    *USERS.offer(UPDATE, A, D, controls=TAKES_OVER),
    *USERS.offer(UPDATE, U, input=OwnChange, controls=TAKES_OVER),
    *USERS.offer(DELETE, A, D, U, controls=TAKES_OVER),
    *USERS.offer(PURGE, A, D, controls=TAKES_OVER),
    *USERS.offer(RESTORE, A, D, controls=TAKES_OVER),
    *USERS.offer(
        RESET_PASSWORD,
        A,
        D,
        input=PasswordReset,
        controls=TAKES_OVER,
        sentence="Set a new password for a user {where}; the user has to change it.",
    ),
    *USERS.offer(
        CHANGE_PASSWORD,
        U,
        input=PasswordChange,
        controls=TAKES_OVER,
        sentence="Change one's own password, knowing the old one.",
    ),
    *USERS.offer(
        WHOAMI,
        U,
        output=Identity,
        aliases=(Alias("GET", "/auth/whoami"),),
        sentence="Show who the caller is, which roles it holds and what they allow.",
    ),
    *USERS.offer(
        CHECK,
        U,
        input=Echo,
        output=Authorized,
        aliases=(Alias("GET", "/auth"), Alias("POST", "/auth")),
        sentence="Confirm that the caller's credentials are good, and echo a text back.",
    ),
)
