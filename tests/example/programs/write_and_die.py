"""Write files of a unit and kill the process, while writing or before the commit: ``FOLDER MOMENT``."""

import os
import signal
import sys
from pathlib import Path

from examples.mpii_cooking.storage import written_aside
from examples.mpii_cooking.workspace import Workspace

folder, moment = sys.argv[1:]
unit = Workspace(Path(folder)).unit("work", {"seed": 0})
unit.path("whole.txt").write_text("whole")
with written_aside(unit.path("half.txt")) as aside:
    aside.write_text("hal")
    if moment == "writing":
        os.kill(os.getpid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
