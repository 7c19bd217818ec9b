"""The declarations of every entity: what exists, what may be asked of it, and in which scopes."""

from actions.entities import (
    audit_record,
    domain,
    installation,
    keypair,
    login,
    policy,
    project,
    role_binding,
    signing_key,
    user,
)
from actions.standard import Spec
from actions.vocabulary import Vocabulary, vocabulary

ALL_SPECS: tuple[Spec, ...] = (
    *domain.SPECS,
    *project.SPECS,
    *user.SPECS,
    *keypair.SPECS,
    *login.SPECS,
    *signing_key.SPECS,
    *role_binding.SPECS,
    *policy.SPECS,
    *installation.SPECS,
    *audit_record.SPECS,
)


def whole_vocabulary() -> Vocabulary:
    """Every cell that a policy file of this program can speak of."""
    return vocabulary(ALL_SPECS)
