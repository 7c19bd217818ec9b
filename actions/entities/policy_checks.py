"""Checking a policy on the server that would take it: its program, its vocabulary, its answer."""

from actions.authorization.check_answer import PolicyCheck
from actions.entities.policy import POLICY, PolicyQuestion
from actions.standard import Standard
from actions.vocabulary import GET, Operation, ScopeType

CHECK = Operation("check", on_item=False, reads=True, in_body=True, tells_of=GET)

SPECS = Standard(POLICY, PolicyCheck).offer(
    CHECK,
    ScopeType.ADMIN,
    input=PolicyQuestion,
    output=PolicyCheck,
    sentence="Check a policy as the server does before it goes live.",
)
