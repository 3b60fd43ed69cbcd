"""``read_events.py PROGRAM COMMAND...``: traces from Python, reads every event, says how many came and were lost."""

import sys

import invivo
from invivo.events import Ended, Printed

printed = lost = 0
with invivo.trace(sys.argv[1], command=sys.argv[2:]) as session:
    for event in session:
        if type(event) is Printed:
            printed += 1
        elif type(event) is Ended:
            lost = sum(count for kind, _, count in event.losses if kind == "ring-full")
sys.stdout.write(f"{printed} read, {lost} lost\n")
