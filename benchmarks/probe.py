"""What the probe's client costs: requests a second against a server that does nothing.

    python benchmarks/probe.py [--requests 4000] [--latency 0 0.2] [--concurrency 8 32]

The server is a process of its own that answers each POST with the same JSON after `latency`
seconds. `client`: this process's CPU time for each request, and as a share of the time passed.
`httpx`: the same requests by bare httpx in as many threads, the floor of this way of asking.
"""

import argparse
import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx

from accord.models.service import Service, ids, text

REPLY = b'{"answer": "Open Contacts and press New.", "sources": [{"id": "p1"}, {"id": "p2"}]}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, latency: float
) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().split(b"content-length:")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            if latency:
                await asyncio.sleep(latency)
            writer.write(HEAD % len(REPLY) + REPLY)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _serve(latency: float) -> None:
    server = await asyncio.start_server(lambda r, w: _answer(r, w, latency), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _ask_service(url: str, requests: int, concurrency: int) -> None:
    service = Service(
        url,
        body={"question": "{{ query }}"},
        paths={"answer": "answer", "ids": "sources[*].id"},
        checks={"answer": text, "ids": ids},
        concurrency=concurrency,
    )
    asked = [{"query": f"How do I add contact {n}?"} for n in range(requests)]
    assert all(result.values for result in service.ask_all(asked))


def _ask_httpx(url: str, requests: int, concurrency: int) -> None:
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    with httpx.Client(limits=limits) as client, ThreadPoolExecutor(concurrency) as pool:
        found = pool.map(
            lambda n: client.post(url, json={"question": f"How do I add contact {n}?"}).json(),
            range(requests),
        )
        assert all(reply["answer"] for reply in found)


def _measured(
    ask: Callable[[str, int, int], None], url: str, requests: int, concurrency: int
) -> tuple[float, float]:
    """(requests a second, CPU seconds of this process a request)."""
    ask(url, concurrency * 2, concurrency)
    wall, cpu = time.perf_counter(), time.process_time()
    ask(url, requests, concurrency)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return requests / wall, cpu / requests


def _served(latency: float) -> Iterator[str]:
    command = [sys.executable, __file__, "--serve", str(latency)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    late = threading.Timer(600, process.kill)
    late.start()
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/ask"
    finally:
        late.cancel()
        process.kill()
        process.wait()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--latency", type=float, nargs="+", default=[0.0, 0.2])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve is not None:
        asyncio.run(_serve(args.serve))
        return
    print("| latency | concurrency | accord | client CPU | of the time | bare httpx | its CPU |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for latency in args.latency:
        for url in _served(latency):
            for concurrency in args.concurrency:
                count = args.requests if not latency else int(concurrency * 8 / latency)
                rate, cpu = _measured(_ask_service, url, count, concurrency)
                floor, its = _measured(_ask_httpx, url, count, concurrency)
                print(
                    f"| {latency:g} s | {concurrency} | {rate:,.0f}/s | {cpu * 1e3:.2f} ms | "
                    f"{100 * cpu * rate:.0f} % | {floor:,.0f}/s | {its * 1e3:.2f} ms |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
