"""What only the owner of the log's tables may do: on the machine itself, through the pipeline, as system:operator."""

from collections.abc import Callable, Mapping
from typing import Any

from actions.entities.audit_export import ExportPart
from actions.entities.audit_partition import ARCHIVE, SPECS
from actions.vocabulary import Operation
from server.cli.local import OPERATOR, as_owner
from server.settings import Settings
from server.setup import account


async def copy(settings: Settings, partition: str, is_enough: Callable[[ExportPart], bool]) -> None:
    """The records of a partition part by part, until a part is enough."""
    [spec] = [spec for spec in SPECS if spec.operation == ARCHIVE]
    async with as_owner(settings) as app, app.following(spec, OPERATOR, {"partition": partition}, account()) as parts:
        async for part in parts:
            if is_enough(part):
                return


async def internally(settings: Settings, operation: Operation, given: Mapping[str, object]) -> Any:
    """Do one of the actions on partitions, and return its output."""
    [spec] = [spec for spec in SPECS if spec.operation == operation]
    async with as_owner(settings) as app:
        return await app.internally(spec, OPERATOR, given, account())
