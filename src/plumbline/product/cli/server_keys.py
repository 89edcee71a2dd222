"""`plumb keys ...`: API keys, at a server or, where none runs yet, in its store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plumbline.product.cli.answer import Answer, table
from plumbline.product.cli.arguments import add_document_file
from plumbline.product.cli.server_command import add_server, open_client, short

if TYPE_CHECKING:
    from plumbline.serving.identity.key_ring import KeyRing

__all__ = ["CREATE", "LS", "REVOKE"]

_COLUMNS = ["id", "tenant", "roles", "rate", "name", "created_at", "revoked_at"]


class _KeyCommand(ABC):
    """Common arguments; `--state` and `--database` name a store to be opened here instead of a server."""

    def configure(self, parser: ArgumentParser) -> None:
        """Arguments of the command."""
        self.arguments(parser)
        store = parser.add_mutually_exclusive_group()
        store.add_argument("--state", metavar="DIR", help="without a server: the store in this state folder")
        store.add_argument("--database", metavar="URL", help="without a server: this store")
        add_server(parser)
        add_document_file(parser)

    def execute(self, arguments: Namespace) -> Answer:
        """At the store, or at a server."""
        if arguments.state is not None or arguments.database is not None:
            import asyncio

            return asyncio.run(_at_store(arguments, lambda ring: self.in_store(ring, arguments)))
        return self.at_server(arguments)

    def arguments(self, parser: ArgumentParser) -> None:
        """Arguments of its own."""
        return

    @abstractmethod
    def at_server(self, arguments: Namespace) -> Answer:
        """Over the native API."""

    @abstractmethod
    async def in_store(self, ring: KeyRing, arguments: Namespace) -> Answer:
        """With an open store, as the local principal: whoever can open the store owns it."""


class _Create(_KeyCommand):
    def arguments(self, parser: ArgumentParser) -> None:
        """Whose key, and what it may do."""
        add = parser.add_argument
        add("--tenant", required=True, help="whose tasks and events it sees")
        add(
            "--role", action="append", required=True, choices=("admin", "operator", "client"),
            help="what it may do; may be repeated",
        )  # fmt: skip
        add("--rate", help="requests that it may make, such as 100/second")
        add("--name", default="", help="what you call it")

    def at_server(self, arguments: Namespace) -> Answer:
        body = {"tenant": arguments.tenant, "roles": arguments.role, "name": arguments.name}
        if arguments.rate is not None:
            body["rate"] = arguments.rate
        with open_client(arguments) as client:
            return _created(client.ask("POST", "/api/v1/keys", document=body))

    async def in_store(self, ring: KeyRing, arguments: Namespace) -> Answer:
        from plumbline.contracts.identity import LOCAL_PRINCIPAL

        made = await ring.create(
            LOCAL_PRINCIPAL,
            tenant=arguments.tenant,
            roles=arguments.role,
            rate=arguments.rate,
            name=arguments.name,
        )
        return _created({**made.key.to_document(), "key": made.text})


class _List(_KeyCommand):
    def at_server(self, arguments: Namespace) -> Answer:
        with open_client(arguments) as client:
            return _listed(client.ask("GET", "/api/v1/keys")["keys"])

    async def in_store(self, ring: KeyRing, arguments: Namespace) -> Answer:
        from plumbline.contracts.identity import LOCAL_PRINCIPAL

        return _listed([key.to_document() for key in await ring.list(LOCAL_PRINCIPAL)])


class _Revoke(_KeyCommand):
    def arguments(self, parser: ArgumentParser) -> None:
        """Which."""
        parser.add_argument("key", metavar="ID", help="id of the key")

    def at_server(self, arguments: Namespace) -> Answer:
        from plumbline.product.client.transport import place

        with open_client(arguments) as client:
            return _one(client.ask("DELETE", place("api", "v1", "keys", arguments.key)))

    async def in_store(self, ring: KeyRing, arguments: Namespace) -> Answer:
        from plumbline.contracts.identity import LOCAL_PRINCIPAL

        return _one((await ring.revoke(LOCAL_PRINCIPAL, arguments.key)).to_document())


async def _at_store(arguments: Namespace, work: Callable[[KeyRing], Awaitable[Answer]]) -> Answer:
    from plumbline.contracts.clock import MonotonicClock
    from plumbline.serving.identity.key_ring import KeyRing
    from plumbline.serving.identity.key_store import SqlKeyStore
    from plumbline.serving.storage.database import open_database, sqlite_url

    url = arguments.database
    if url is None:
        state = Path(arguments.state)
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        url = sqlite_url(state / "store.sqlite")
    database = await open_database(url)
    try:
        return await work(KeyRing(SqlKeyStore(database), MonotonicClock()))
    finally:
        await database.close()


def _created(document: dict[str, Any]) -> Answer:
    """The key alone on its line, so that it can be written to a file."""
    return Answer(document=document, text=str(document["key"]))


def _listed(keys: list[dict[str, Any]]) -> Answer:
    rows = [[short(key.get(name)) for name in _COLUMNS] for key in keys]
    return Answer(document={"keys": keys}, text=table(rows, _COLUMNS))


def _one(document: dict[str, Any]) -> Answer:
    return Answer(document=document, text=table([[short(document.get(n)) for n in _COLUMNS]], _COLUMNS))


CREATE = _Create()
LS = _List()
REVOKE = _Revoke()
