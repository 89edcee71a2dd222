"""`run_server`: the doors over a runtime: REST, gRPC, native API, sockets, status page, metrics."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from importlib.metadata import version as installed_version

from plumbline.product.console import reference_page, status_page
from plumbline.product.serving.canary_door import CanaryDoor
from plumbline.product.serving.documents import merge_documents
from plumbline.product.serving.options import ServeOptions
from plumbline.product.serving.runtime import Runtime, open_runtime
from plumbline.serving.api.application import native_application
from plumbline.serving.api.parts import NativeParts
from plumbline.serving.gateway.application import GatewayApplication, build_application
from plumbline.serving.gateway.limits import GatewayLimits
from plumbline.serving.gateway.parts import Gateway, GatewayOptions
from plumbline.serving.gateway.server import Listening, ServerKind, serve

__all__ = ["run_server"]


async def run_server(
    options: ServeOptions,
    *,
    stop: asyncio.Event | None = None,
    on_listening: Callable[[Listening, Runtime], None] = lambda listening, runtime: None,
    on_ready: Callable[[Runtime], None] = lambda runtime: None,
) -> int:
    """Serve until SIGTERM, SIGINT or `stop`.

    Models of the start are loaded while the doors are open; readiness is false until each passed a real
    inference. One that cannot be loaded keeps the gateway not ready, with the reason; a name that is not in
    the repository, or a repository that cannot be read, ends the server.

    Args:
        options: of the operator.
        stop: see `serve`.
        on_listening: called when the doors are open.
        on_ready: called when the models of the start were loaded, or found wanting.

    Returns:
        Requests that did not finish within the drain time.

    Raises:
        PlumblineError: a part cannot be had, or what to load at the start cannot be found out.
    """
    async with open_runtime(options) as runtime:
        loading: list[asyncio.Task[None]] = []
        stop = asyncio.Event() if stop is None else stop

        def ended(start: asyncio.Task[None]) -> None:
            if not start.cancelled() and start.exception() is not None:
                stop.set()

        def opened(listening: Listening) -> None:
            on_listening(listening, runtime)
            start = asyncio.create_task(_load_models(runtime, on_ready), name="models of the start")
            start.add_done_callback(ended)
            loading.append(start)
            loading.append(asyncio.create_task(_tell_drain(runtime, stop), name="drain told"))

        try:
            unfinished = await serve(
                _application(runtime),
                host=options.host,
                port=options.port,
                grpc_port=options.grpc_port,
                kind=ServerKind(options.server),
                drain_timeout_s=options.drain_timeout_s,
                stop=stop,
                on_listening=opened,
            )
            runtime.observation.log.happened("server.drained", "", None, {"unfinished": unfinished})
            _verify_started(loading)
            return unfinished
        finally:
            for task in loading:
                task.cancel()
            await asyncio.gather(*loading, return_exceptions=True)


def _verify_started(loading: list[asyncio.Task[None]]) -> None:
    """Raises what ended the start, if anything did."""
    for task in loading:
        if task.done() and not task.cancelled():
            task.result()


async def _tell_drain(runtime: Runtime, stop: asyncio.Event) -> None:
    await stop.wait()
    runtime.observation.log.happened("server.draining", "", None, {})


async def _load_models(runtime: Runtime, on_ready: Callable[[Runtime], None]) -> None:
    await runtime.directory.start(runtime.options.models)
    await runtime.tasks.start()
    gc.collect()
    gc.freeze()  # what is here by now stays: no collection looks at it while requests wait
    runtime.health.started()
    on_ready(runtime)


def _application(runtime: Runtime) -> GatewayApplication:
    options = runtime.options
    release = installed_version("plumbline-runtime")
    native = native_application(_native_parts(runtime, release))
    application = build_application(
        Gateway(
            inference=runtime.inference,
            models=runtime.directory,
            health=runtime.health,
            authenticator=runtime.authenticator,
            native=native,
            status_page=status_page(),
            reference_page=reference_page(),
            metrics=runtime.observation.metrics,
            observe=runtime.observation.figures.door_answered,
            openapi=lambda: merge_documents(application.openapi, native.openapi()),
            options=GatewayOptions(
                version=release,
                native_prefixes=("/api/v1/", "/ws"),
                allowed_origins=options.allowed_origins,
                allowed_hosts=options.allowed_hosts,
            ),
            limits=GatewayLimits(max_body_bytes=options.max_body_bytes),
            clock=runtime.clock,
        )
    )
    return application


def _native_parts(runtime: Runtime, release: str) -> NativeParts:
    return NativeParts(
        authenticator=runtime.authenticator,
        tasks=runtime.tasks.manager,
        devices=runtime.devices,
        models=runtime.directory,
        workers=runtime.pool,
        decisions=runtime.decisions,
        events=runtime.events,
        keys=runtime.keys,
        canary=CanaryDoor(runtime.directory),
        publication=runtime.directory,
        plans=runtime.plans,
        version=release,
        allowed_origins=runtime.options.allowed_origins,
        clock=runtime.clock,
    )
