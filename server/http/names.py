"""What a model is called in public: one rule for the OpenAPI document and the GraphQL schema.

Knows neither of them.
"""

import re


def public_name(title: str) -> str:
    """A class by its name in Python: ``Page[User]`` is ``UserPage``, ``Few[Kind[User]]`` is ``UserKindFew``."""
    return "".join(word[:1].upper() + word[1:] for word in reversed(re.findall(r"\w+", title)))
