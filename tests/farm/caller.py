"""What farm code needs of a driver's call, for tests."""

from __future__ import annotations

import io
import time
from typing import Any

from dnc import config
from dnc.command import Runner
from dnc.log import Log


class TestCaller:
    """Config from dncrc text, a log that can be read, a real runner."""

    __test__ = False

    def __init__(self, text: str = 'HOSTS="node1 node2"\nSSH_TIMEOUT="5"\n', *, dry_run: bool = False) -> None:
        self.config: Any = config.parse(text)
        self.stream = io.StringIO()
        self.log = Log("test", debug=True, stream=self.stream)
        self.runner = Runner(self.log, dry_run=dry_run)
        self.started = time.time()

    @property
    def logged(self) -> str:
        return self.stream.getvalue()
