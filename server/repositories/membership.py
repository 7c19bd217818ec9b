"""Who takes part where: the one reading of a role binding that is in force."""

from sqlalchemy import ColumnElement, exists, func, or_

from server.repositories.rows import role_bindings


def bound(*where: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether there is such a binding, neither revoked nor at its end."""
    return exists().where(
        *where,
        role_bindings.c.deleted_at.is_(None),
        or_(role_bindings.c.expires_at.is_(None), role_bindings.c.expires_at > func.now()),
    )
