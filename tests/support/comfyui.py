"""Start the server of a ComfyUI on the CPU with this pack linked in, and talk to it."""

import contextlib
import functools
import io
import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
from environments import ROOT, python_of

PACK = "Some-Name"  # the folder name inside custom_nodes; any name must work


class Server:
    """A running ComfyUI with nothing but this pack in its custom_nodes.

    Parameters
    ----------
    comfyui : its folder; nothing is written into it.
    base : an empty folder for its models, inputs, outputs and custom_nodes.
    """

    def __init__(self, comfyui, base):
        (base / "custom_nodes").mkdir(parents=True)
        (base / "custom_nodes" / PACK).symlink_to(ROOT, target_is_directory=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.base, self.url = base, f"http://127.0.0.1:{port}"
        self.log = base / "server.log"
        command = [python_of(comfyui), "main.py", "--cpu", "--port", str(port), "--disable-api-nodes", "--disable-auto-launch"]
        # Newer servers drop results when memory is short; which nodes run again would then depend on memory.
        command += ["--cache-classic"]
        command += ["--base-directory", str(base), "--database-url", "sqlite:///:memory:"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=comfyui, stdout=log, stderr=subprocess.STDOUT)

    def wait_until_up(self, seconds=180):
        """Wait for the first answer; raises an error with the end of the log if the server does not start."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                return self.get("/system_stats")
            time.sleep(0.3)
        raise RuntimeError(f"ComfyUI did not start:\n{self.log.read_text()[-4000:]}")

    def stop(self):
        """End the server and all its processes."""
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def raw(self, path, body=None):
        """The bytes that a GET (or, with a body, a JSON POST) answers. An HTTP error raises with the answer's text."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{error.code} for {path}: {error.read().decode()[:20_000]}") from error

    def get(self, path):
        """The JSON that a path answers."""
        return json.loads(self.raw(path))

    @functools.cached_property
    def nodes(self):
        """What the server says of every node, asked once, for it takes a second: menus of files are those of that moment."""
        return self.get("/object_info")

    def submit(self, prompt):
        """Queue a prompt in API format; returns its id."""
        return json.loads(self.raw("/prompt", {"prompt": prompt}))["prompt_id"]

    def is_running(self, prompt_id):
        return any(item[1] == prompt_id for item in self.get("/queue")["queue_running"])

    def wait_for_log(self, text, start, seconds=180):
        """Wait until the server has written a text behind the byte `start` of its log."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.log.read_bytes()[start:]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"Within {seconds} s the server did not write {text!r}:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)

    def wait(self, prompt_id, seconds=180):
        """Wait for a prompt to end; returns its entry in the history."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]
            time.sleep(0.05)
        raise TimeoutError(f"The prompt did not end within {seconds} s:\n{self.log.read_text()[-4000:]}")

    def run(self, prompt, seconds=180):
        """Run a prompt to its end."""
        return self.wait(self.submit(prompt), seconds)

    def run_afresh(self, prompt, seconds=180, before=lambda: None):
        """Run a prompt with nothing in the server's cache of results and models. `before` is called before each try."""
        for _ in range(5):
            self.raw("/free", {"unload_models": True, "free_memory": True})
            time.sleep(0.5)  # the server empties its cache between two runs, and tells nobody when
            before()
            entry = self.run(prompt, seconds)
            if not any(data["nodes"] for data in messages(entry, "execution_cached")):
                return entry
        raise AssertionError("ComfyUI did not empty its cache")

    def pictures(self, entry, node):
        """The pictures that a SaveImage node saved, [N, H, W, 3] uint8."""
        from PIL import Image

        shown = [self.raw("/view?" + urllib.parse.urlencode(item)) for item in entry["outputs"][node]["images"]]
        return np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in shown])


def messages(entry, kind):
    """The data of all messages of one kind in a history entry, such as execution_error."""
    return [data for name, data in entry["status"]["messages"] if name == kind]
