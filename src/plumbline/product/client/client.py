"""`Client`: a Plumbline server from Python, synchronous, one method for each thing that can be asked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from plumbline.errors import Recoverability, ResourceError
from plumbline.product.client.events import follow_events
from plumbline.product.client.inference import (
    HEADER_LENGTH,
    InferAnswer,
    decode_answer,
    encode_inputs,
    tensor_document,
)
from plumbline.product.client.transport import Reply, Transport, parse_address, place

__all__ = ["DEFAULT_SERVER", "FINAL_STATES", "Client", "TaskWaitOver", "version_path"]

DEFAULT_SERVER = "http://127.0.0.1:8000"
FINAL_STATES = frozenset({"succeeded", "failed", "cancelled", "expired"})
_SLOW_S = 3600.0

Document = dict[str, Any]


@dataclass(eq=False, kw_only=True)
class TaskWaitOver(ResourceError):
    """A task did not end while the caller waited; it goes on."""

    code = "resource.task_wait"
    owner = "product"
    recoverability = Recoverability.TRANSIENT
    template = "task {task!r} is {state} after {waited_s:g} s"

    task: str
    state: str
    waited_s: float
    retry_after_s: float = 1.0


class Client:
    """Talks to one server over one connection; not to be shared by threads. Closes with `with` or `close`.

    Every method raises `ServerUnreachable`, `AnswerLost`, `AnswerUnreadable` or `ServerRefusal`; the last has
    the code, class and recoverability of the server's error.

    Args:
        server: such as `http://127.0.0.1:8000`, a path in front of the routes included.
        key: API key; None for a server that asks for none.
        timeout_s: for a connection and for each wait for an answer. Loads and waits have longer ones.

    Raises:
        ServerAddressRefused: `server` is no address.
    """

    def __init__(
        self, server: str = DEFAULT_SERVER, *, key: str | None = None, timeout_s: float = 60.0
    ) -> None:
        self._transport = Transport(parse_address(server), key=key, timeout_s=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._transport.close()

    def call(self, method: str, path: str, **how: Any) -> Reply:
        """Any route; see `Transport.exchange`."""
        return self._transport.exchange(method, path, **how)

    def ask(self, method: str, path: str, **how: Any) -> Document:
        """Any route that answers with a JSON document, or a list as member `items`."""
        found = self.call(method, path, **how).document()
        return found if isinstance(found, dict) else {"items": found}

    # -- inference -------------------------------------------------------------------------------------------

    def infer(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray | Sequence[str | bytes]],
        *,
        version: str | None = None,
        outputs: Sequence[str] = (),
        datatypes: Mapping[str, str] | None = None,
        priority: int | None = None,
        start_within_s: float | None = None,
        deadline_s: float | None = None,
        parameters: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        binary: bool = True,
    ) -> InferAnswer:
        """Run a model.

        Args:
            model: name.
            inputs: arrays, or lists of texts, by name.
            version: None for the one that unpinned requests get.
            outputs: names of those wanted; empty for all.
            datatypes: for inputs whose array does not say it, such as `BF16` as bits in uint16.
            priority: 0 to 9, higher first; 5 by default.
            start_within_s: the request is refused when it has not been launched by then.
            deadline_s: the answer must be there by then.
            parameters: for the version.
            request_id: the id of the request in every layer; one is made by the server otherwise.
            binary: tensors travel as binary data; NaN, infinity and bytes that are no text need it.

        Raises:
            InputNotTensor: nothing was sent.
        """
        documents, data = encode_inputs(inputs, datatypes or {}, binary=binary)
        terms = {
            "priority": None if priority is None else 10 - priority,
            "timeout": _microseconds(start_within_s),
            "plumbline_deadline_us": _microseconds(deadline_s),
            "binary_data_output": True if binary else None,
        }
        chosen = {name: value for name, value in terms.items() if value is not None}
        body: Document = {"inputs": documents, "parameters": {**chosen, **(parameters or {})}}
        if outputs:
            body["outputs"] = [{"name": name} for name in outputs]
        head = json.dumps(body, allow_nan=False).encode()
        headers = {"content-type": "application/octet-stream" if binary else "application/json"}
        if binary:
            headers[HEADER_LENGTH] = str(len(head))
        if request_id is not None:
            headers["x-request-id"] = request_id
        path = version_path(model, version) + "/infer"
        return decode_answer(self.call("POST", path, body=head + data, headers=headers))

    # -- the service -----------------------------------------------------------------------------------------

    def health(self) -> Document:
        """Live, ready, and the checks behind them."""
        return self.ask("GET", "/health", accept=frozenset({503}))

    def info(self) -> Document:
        """The service, and who the caller is."""
        return self.ask("GET", "/api/v1/info")

    def explain(self, request_id: str) -> Document:
        """Why a request ran when and where it did."""
        return self.ask("GET", place("api", "v1", "requests", request_id, "explain"))

    def events(
        self,
        *,
        after: int | None = None,
        kinds: Sequence[str] = (),
        subjects: Sequence[str] = (),
        seconds: float | None = None,
    ) -> Iterator[Document]:
        """Events from now on, or from behind the `sequence` of the last one that the caller had.

        Args:
            after: that sequence.
            kinds: `task` means `task.*`; empty for all.
            subjects: such as task ids; empty for all.
            seconds: end after so long; None goes on.
        """
        return follow_events(self._transport, after=after, kinds=kinds, subjects=subjects, seconds=seconds)

    # -- models ----------------------------------------------------------------------------------------------

    def metadata(self, model: str, version: str | None = None) -> Document:
        """Inputs and outputs, as the Open Inference Protocol has them."""
        return self.ask("GET", version_path(model, version))

    def models(self) -> list[Document]:
        """Every model with its versions."""
        found: list[Document] = self.ask("GET", "/api/v1/models")["models"]
        return found

    def model(self, model: str) -> Document:
        """One model, with interface and memory of each ready version."""
        return self.ask("GET", place("api", "v1", "models", model))

    def load(
        self, model: str, version: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> Document:
        """Load a version; returns when it is ready."""
        body = {"version": version, "settings": dict(settings) if settings else None}
        return self._change(model, "load", body)

    def unload(self, model: str, version: str | None = None) -> Document:
        """Unload a version, or all; returns when the memory is given back."""
        return self._change(model, "unload", {"version": version})

    def _change(self, model: str, what: str, body: Document) -> Document:
        path = place("api", "v1", "models", model, what)
        return self.ask("POST", path, document=body, timeout_s=_SLOW_S)

    # -- tasks -----------------------------------------------------------------------------------------------

    def submit(
        self,
        model: str,
        *,
        inputs: Mapping[str, np.ndarray | Sequence[str | bytes]] | None = None,
        text: str | Sequence[str] | None = None,
        task_id: str | None = None,
        datatypes: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Document:
        """Submit a task; under one's own id it may be repeated.

        Args:
            model: `NAME` or `NAME@VERSION`.
            inputs: tensors; or `text`: for models that take texts.
            task_id: one's own id.
            datatypes: see `infer`.
            more: members of a task request: `version`, `outputs`, `parameters`, `device`, `priority`,
                `timeout_s`, `name`, `cache`.
        """
        body: Document = {
            "model": model,
            **{name: value for name, value in more.items() if value is not None},
        }
        if inputs:
            known = datatypes or {}
            body["inputs"] = [tensor_document(n, value, known.get(n)) for n, value in inputs.items()]
        if text is not None:
            body["text"] = text if isinstance(text, str) else list(text)
        if task_id is None:
            return self.ask("POST", "/api/v1/tasks", document=body)
        return self.ask("PUT", place("api", "v1", "tasks", task_id), document=body)

    def tasks(self, *, state: str | None = None, limit: int = 50, cursor: str | None = None) -> Document:
        """A page of tasks, newest first: `tasks` and `next`."""
        return self.ask("GET", "/api/v1/tasks", query={"state": state, "limit": limit, "cursor": cursor})

    def task(self, task_id: str) -> Document:
        """A task, with its result once it succeeded."""
        return self.ask("GET", place("api", "v1", "tasks", task_id))

    def cancel(self, task_id: str) -> Document:
        """Ask for the end of a task."""
        return self.ask("DELETE", place("api", "v1", "tasks", task_id))

    def watch_task(
        self, task_id: str, *, timeout_s: float | None = None, pause_s: float = 0.2
    ) -> Iterator[Document]:
        """The task as it is now and again, until it ended.

        Raises:
            TaskWaitOver: it did not within `timeout_s`.
        """
        began = time.monotonic()
        while True:
            found = self.task(task_id)
            yield found
            if found.get("status") in FINAL_STATES:
                return
            waited = time.monotonic() - began
            if timeout_s is not None and waited >= timeout_s:
                raise TaskWaitOver(
                    task=task_id[:64], state=str(found.get("status")), waited_s=round(waited, 1)
                )
            time.sleep(pause_s)

    def wait(self, task_id: str, *, timeout_s: float | None = None) -> Document:
        """The task once it ended.

        Raises:
            TaskWaitOver: it did not within `timeout_s`.
        """
        *_, last = self.watch_task(task_id, timeout_s=timeout_s)
        return last


def version_path(model: str, version: str | None) -> str:
    """The path of a model, or of one version, under `/v2`."""
    named = place("v2", "models", model)
    return named if version is None else named + place("versions", version)


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else max(1, round(seconds * 1_000_000))
