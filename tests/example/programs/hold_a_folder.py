"""Hold a folder until the process is killed: ``FOLDER``."""

import sys
import time
from pathlib import Path

from examples.mpii_cooking.storage import held

with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
