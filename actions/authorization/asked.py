"""How a question about a policy is written: an action, a set of roles. Words in, values out; it decides nothing."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches

from actions.vocabulary import Permission


class NotUnderstood(ValueError):
    """A word of a question means nothing; the message says which one, and what may have been meant."""


def permission_of(text: str, actions: Mapping[str, Permission]) -> Permission:
    """What an action needs: ``domain_search_users``, or its words ``domain:user:search``. ``actions`` are the known
    ones by name. Raises ``NotUnderstood``."""
    found = actions.get(text)
    if found is None:
        words = {str(permission): permission for permission in actions.values()}
        found = words.get(text)
        if found is None:
            raise NotUnderstood(f"'{text}' is no action. {_near(text, [*actions, *words])}")
    return found


def roles_of(text: str, known: Collection[str]) -> frozenset[str]:
    """The roles of ``domain_admin+auditor``. Raises ``NotUnderstood``."""
    roles = [part.strip() for part in text.split("+")]
    for role in roles:
        if role not in known:
            raise NotUnderstood(f"'{role}' is no role of this policy. {_near(role, known)}")
    return frozenset(roles)


def _near(word: str, known: Collection[str]) -> str:
    near = get_close_matches(word.lower(), list(known), 1)
    return f"Did you mean '{near[0]}'?" if near else "`chamberlain actions` lists the actions, roles.yaml the roles."
