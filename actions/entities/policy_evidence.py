"""Point in time: who could do what, at a moment that has passed, as evidence that others can check."""

from pydantic import Field

from actions.entities.policy import POLICIES
from actions.entities.policy_words import ActionWord, ScopeWord
from actions.model import Input, Output, Time
from actions.vocabulary import GET, Operation, ScopeType

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


SPECS = POLICIES.offer(
    WHO_COULD,
    ScopeType.ADMIN,
    input=WhoCouldQuestion,
    output=Evidence,
    sentence="Tell who could do something at a moment that has passed, as signed evidence.",
)
