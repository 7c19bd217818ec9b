"""``chamberlain openapi``: the document, made from the declarations. Needs neither server nor database."""

from actions.entities import ALL_SPECS
from server.app import VERSION
from server.cli.output import show_json
from server.http.openapi import document


def show() -> None:
    show_json(document(ALL_SPECS, VERSION))
