from casbin.persist import Adapter

class FileAdapter(Adapter):
    def __init__(self, file_path: str) -> None: ...

class StringAdapter(Adapter):
    def __init__(self, line: str) -> None: ...
