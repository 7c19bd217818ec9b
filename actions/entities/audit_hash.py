"""The keyed hash of a value, by which the records that speak of it are found. The value itself goes no further."""

from typing import Annotated

from pydantic import Field, SecretStr

from actions.entities.audit_record import AUDIT_RECORDS
from actions.model import Input, Output
from actions.vocabulary import Operation, ScopeType

HASH = Operation("hash", on_item=False, reads=True, in_body=True, watched=True)


class HashQuestion(Input):
    value: Annotated[SecretStr, Field(min_length=1, max_length=4096)] = Field(
        description="For example a secret key that was found somewhere. It is neither recorded nor logged."
    )


class HashedValue(Output):
    hash: str = Field(description="What the log holds in its place; the filter `hash` of a search takes it.")


SPECS = AUDIT_RECORDS.offer(
    HASH,
    ScopeType.ADMIN,
    input=HashQuestion,
    output=HashedValue,
    sentence="Tell the keyed hash that the audit log holds in place of a secret.",
)
