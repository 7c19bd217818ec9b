"""The options that several commands have: one name, one meaning and one help text each."""

from typing import Annotated

import typer

EndpointOption = Annotated[str | None, typer.Option("--endpoint", help="Another server than the credentials name.")]
DomainOption = Annotated[
    str | None, typer.Option("--domain", help="Ask as an auditor of this domain does, and not of all.")
]
CountOption = Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many records.")]
PartitionArgument = Annotated[str, typer.Argument(help="As `audit partitions` names it.")]
