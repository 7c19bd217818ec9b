"""What only the owner of the log's tables may do: on the machine itself, through the pipeline, as system:operator."""

from collections.abc import Mapping
from typing import Any

from actions.entities.audit_partition import SPECS
from actions.vocabulary import Operation
from server.cli.local import OPERATOR, as_owner
from server.settings import Settings
from server.setup import account


async def internally(settings: Settings, operation: Operation, given: Mapping[str, object]) -> Any:
    """Do one of the actions on partitions, and return its output."""
    [spec] = [spec for spec in SPECS if spec.operation == operation]
    async with as_owner(settings) as app:
        return await app.internally(spec, OPERATOR, given, account())
