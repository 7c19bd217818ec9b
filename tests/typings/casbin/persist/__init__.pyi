from casbin.model import Model

class Adapter:
    """A source of policy lines; a subclass overrides ``load_policy`` and adds them to the model."""

    def load_policy(self, model: Model) -> None: ...

def load_policy_line(line: str, model: Model) -> None: ...
