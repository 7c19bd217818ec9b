"""The declarations of every entity: what exists, what may be asked of it, and in which scopes."""

from collections.abc import Mapping
from functools import cache

from actions.entities import (
    audit_archive,
    audit_export,
    audit_hash,
    audit_key,
    audit_partition,
    audit_proof,
    audit_record,
    audit_subject,
    audit_watch,
    domain,
    installation,
    keypair,
    login,
    policy,
    policy_authzen,
    policy_cases,
    policy_checks,
    policy_diff,
    policy_evidence,
    policy_explain,
    policy_questions,
    policy_shadow,
    policy_usage,
    project,
    role_binding,
    signing_key,
    user,
)
from actions.standard import Spec
from actions.vocabulary import Permission, Vocabulary, vocabulary

ALL_SPECS: tuple[Spec, ...] = (
    *domain.SPECS,
    *project.SPECS,
    *user.SPECS,
    *keypair.SPECS,
    *login.SPECS,
    *signing_key.SPECS,
    *audit_key.SPECS,
    *audit_archive.SPECS,
    *audit_subject.SPECS,
    *audit_partition.SPECS,
    *role_binding.SPECS,
    *policy_evidence.SPECS,
    *policy_diff.SPECS,
    *policy_explain.SPECS,
    *policy_questions.SPECS,
    *policy_authzen.SPECS,
    *policy_shadow.SPECS,
    *policy.SPECS,
    *policy_checks.SPECS,
    *policy_cases.SPECS,
    *policy_usage.SPECS,
    *installation.SPECS,
    *audit_record.SPECS,
    *audit_proof.SPECS,
    *audit_watch.SPECS,
    *audit_export.SPECS,
    *audit_hash.SPECS,
)


@cache
def whole_vocabulary() -> Vocabulary:
    """Every cell that a policy file of this program can speak of."""
    return vocabulary(ALL_SPECS)


@cache
def permissions_by_action() -> Mapping[str, Permission]:
    """What each action needs, by its name: the words that a question about a policy may use."""
    return {spec.name: spec.permission for spec in ALL_SPECS}
