"""A headless Chromium over its DevTools protocol: as much of it as the tests of pages need."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = which("chromium") or which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip
START_S = ANSWER_S = 60.0
SEEN = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")


class Page:
    """One tab. `complaints` holds what its console was told: exceptions, errors, violations of policy."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._count = socket, 0
        self.complaints: list[str] = []
        self.addresses: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command; its result. Events that come meanwhile are noted."""
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        end = time.monotonic() + ANSWER_S
        while True:
            message = json.loads(self._socket.recv(timeout=max(0.01, end - time.monotonic())))
            if message.get("id") == self._count:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                return dict(message["result"])
            self._note(message)

    def open(self, address: str, *, width: int = 1280, height: int = 1000, dark: bool = False) -> None:
        """Go there, as a window of this size."""
        self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])
        self.command("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def close(self) -> None:
        """Close the tab: it asks its server for nothing more."""
        self._socket.send(json.dumps({"id": self._count + 1, "method": "Page.close"}))
        self._socket.close()

    def resize(self, width: int, height: int) -> None:
        """Another window."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression: str, timeout_s: float = 60.0) -> Any:
        """The value of an expression once it is true."""
        end = time.monotonic() + timeout_s
        while not (value := self.evaluate(expression)):
            if time.monotonic() > end:
                shown = self.evaluate("document.body.innerText")
                raise AssertionError(f"never true: {expression}\n{self.complaints}\n{shown}")
            time.sleep(0.05)
        return value

    def text(self, selector: str) -> str:
        """What a person reads there."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """As a mouse does: at the middle of what is there."""
        place = self.evaluate(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)}); it.scrollIntoView("
            "{block: 'center'}); const box = it.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        self.move(*place)
        for kind in ("mousePressed", "mouseReleased"):
            self.command(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )

    def move(self, x: float, y: float) -> None:
        """The mouse, to there."""
        self.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def write(self, text: str) -> None:
        """Into what has the focus."""
        self.command("Input.insertText", text=text)

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        shot = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _note(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.addresses.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"])[:600])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(parameters["args"])[:600])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")


@contextmanager
def chromium(folder: Path) -> Iterator[Callable[[], Page]]:
    """A browser of its own; what it yields opens a tab.

    Args:
        folder: new, for its profile.
    """
    if CHROMIUM is None:
        raise AssertionError("there is no chromium here")
    log = folder / "chromium.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            stdout=output, stderr=output,
        )  # fmt: skip
    sockets: list[ClientConnection] = []
    try:
        control = _control(process, log)

        def tab() -> Page:
            browser = connect(control, max_size=None, proxy=None)
            sockets.append(browser)
            browser.send(
                json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}})
            )
            target = json.loads(browser.recv(timeout=ANSWER_S))["result"]["targetId"]
            root = control.split("/devtools/")[0]
            socket = connect(f"{root}/devtools/page/{target}", max_size=None, proxy=None)
            sockets.append(socket)
            return Page(socket)

        yield tab
    finally:
        for socket in sockets:
            socket.close()
        process.terminate()
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _control(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + START_S
    while (found := re.search(r"DevTools listening on (ws://\S+)", log.read_text(errors="replace"))) is None:
        if process.poll() is not None or time.monotonic() > end:
            raise AssertionError(f"chromium did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)
    return found[1]
