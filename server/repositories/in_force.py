"""What counts now, for every statement about people: which of them may sign in, and which of their role bindings hold.

``NOW`` is the caller's, who decides by the same clock: a binding is over for a count when it is over for a decision.
"""

from typing import Any

from sqlalchemy import ColumnElement, DateTime, and_, bindparam, or_

from server.repositories.rows import domains, role_bindings, users

NOW = bindparam("now", type_=DateTime(timezone=True))
PEOPLE = users.join(domains, users.c.domain_id == domains.c.id)
BOUND = role_bindings.join(users, role_bindings.c.user_id == users.c.id).join(
    domains, users.c.domain_id == domains.c.id
)
"""What people hold, with who holds it."""
MAY_SIGN_IN = and_(users.c.status == "active", users.c.deleted_at.is_(None), domains.c.deleted_at.is_(None))
"""Of ``PEOPLE``: whoever cannot sign in now does nothing, whatever it holds."""


def holds(binding: Any) -> ColumnElement[bool]:
    """A binding, given by its columns, that is neither taken away nor over."""
    return and_(binding.deleted_at.is_(None), or_(binding.expires_at.is_(None), binding.expires_at > NOW))


def counts_in(binding: Any, domain: ColumnElement[Any], project: ColumnElement[Any]) -> ColumnElement[bool]:
    """A binding that is held in a scope of the lineage whose domain and project these are, null where it has none."""
    return or_(
        binding.domain_id.is_(None),
        and_(binding.domain_id == domain, or_(binding.project_id.is_(None), binding.project_id == project)),
    )
