"""Point in time: who could do what, at a moment that has passed, as evidence that others can check."""

from pydantic import Field

from actions.entities.policy import POLICIES
from actions.entities.policy_words import ActionWord, ScopeWord
from actions.model import Input, Nothing, Output, Time
from actions.vocabulary import GET, Operation, ScopeType

EVIDENCE_KEY = Operation("evidence_key", on_item=False, reads=True, tells_of=GET)
WHO_COULD = Operation("who_could", on_item=False, reads=True, in_body=True, tells_of=GET)


class WhoCouldQuestion(Input):
    action: ActionWord
    scope: ScopeWord
    at: Time


class Evidence(Output):
    """One answer twice, each with its signature (Ed25519 over the text's UTF-8 bytes, in base64)."""

    document: str = Field(description="The answer as canonical JSON: the bytes that are signed.")
    document_signature: str
    table: str = Field(description="The same as CSV.")
    table_signature: str
    public_key: str = Field(description="The installation's evidence key: 32 bytes in base64.")


class EvidenceKey(Output):
    """What evidence is verified with."""

    public_key: str = Field(description="Ed25519, 32 bytes in base64.")
    fingerprint: str = Field(description="The beginning of its SHA-256, as `chamberlain policy verify` tells it.")


SPECS = (
    *POLICIES.offer(
        WHO_COULD,
        ScopeType.ADMIN,
        input=WhoCouldQuestion,
        output=Evidence,
        sentence="Tell who could do something at a moment that has passed, as signed evidence.",
    ),
    *POLICIES.offer(
        EVIDENCE_KEY,
        ScopeType.ADMIN,
        input=Nothing,
        output=EvidenceKey,
        sentence="Show the key that evidence is verified with.",
    ),
)
