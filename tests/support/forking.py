"""Scripts of this folder on a ComfyUI that is imported once: the import takes seven seconds of a processor, a fork takes none.

    python tests/support/forking.py FOLDER      wait for scripts, one line of JSON each, and answer with their exit codes
"""

import json
import os
import runpy
import signal
import subprocess
import sys
import traceback
from pathlib import Path

SUPPORT = Path(__file__).parent
SECONDS = 900  # after which a script is ended; the longest takes half a minute on a quiet machine


class Forking:
    """A process that has imported a ComfyUI and forks for every script.

    Parameters
    ----------
    python : the interpreter of the ComfyUI's environment.   comfyui : its folder.
    """

    def __init__(self, python, comfyui):
        command = [python, str(SUPPORT / "forking.py"), str(comfyui)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, folder, script, *arguments):
        """Run a script of this folder; returns what it printed, or raises an error with what it complained of.

        Parameters
        ----------
        folder : an empty one, for what the script prints.   script : its file's name.   arguments : of its command line.
        """
        order = {"script": str(SUPPORT / script), "arguments": arguments, "out": str(folder / "out"), "errors": str(folder / "errors")}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "The process that imports ComfyUI has ended; what it said is on standard error."
        assert int(answer) == 0, (folder / "errors").read_text()
        return (folder / "out").read_text()

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def main():
    from in_process import start_comfyui

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an import prints is no answer
    start_comfyui(Path(sys.argv[1]))
    # What most scripts need, or import at their first drawing.
    import comfy.sd  # noqa: F401
    import matplotlib.backends.backend_agg  # noqa: F401
    import rarity.nodes  # noqa: F401
    import sklearn.mixture  # noqa: F401

    import nodes  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(**json.loads(line))
        answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        answers.flush()


def run(script, arguments, out, errors):
    """Run a script as `python script arguments` does, and end this process."""
    code = 1
    signal.alarm(SECONDS)
    try:
        for number, path in ((1, out), (2, errors)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
