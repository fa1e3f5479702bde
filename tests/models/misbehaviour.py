"""In the place of service.dry_run: a program that does what the name of the folder says."""

import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    what = Path(sys.argv[1]).name
    seconds = float(sys.argv[sys.argv.index("--seconds") + 1])
    if what == "hangs":
        signal.setitimer(signal.ITIMER_REAL, seconds)
        time.sleep(60)
    elif what == "hangs-deaf":
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        time.sleep(60)
    elif what == "crashes":
        sys.stderr.write("this is\nthe last word\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "swallows":
        time.sleep(0.3)  # until it is confined
        kept = [bytearray(2**24) for _ in range(2**10)]
        sys.stdout.write(str(len(kept)))
    elif what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "babbles":
        sys.stdout.write("no JSON\n")
    elif what == "lies":
        sys.stdout.write('{"model": "tiny:1"}\n')
    elif what == "refuses":
        sys.stdout.write('a library speaks\n{"refused": "the graph is odd"}\n')
        sys.exit(1)
    elif what == "lacks":
        sys.stderr.write("ModuleNotFoundError: No module named 'onnxruntime'\n")
        sys.exit(1)


main()
