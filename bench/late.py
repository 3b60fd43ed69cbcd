"""``late.py COUNT SECONDS``: makes so many calls of getppid, with so long a pause before each."""

import os
import sys
import time

for _ in range(int(sys.argv[1])):
    time.sleep(float(sys.argv[2]))
    os.getppid()
