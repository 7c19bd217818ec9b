"""What domains and projects are given from above: caps on resources, and the hosts and registries they may use."""

from typing import Annotated

from pydantic import Field

from actions.model import KEYS, Key, Text

Slots = Annotated[dict[Key, Annotated[int, Field(ge=0, le=2**62)]], Field(max_length=32), KEYS]
"""Resource caps by slot name: ``cpu`` in cores, ``mem`` in bytes. A slot that is not named has no cap."""
Hosts = Annotated[list[Annotated[Text, Field(max_length=256)]], Field(max_length=64)]
