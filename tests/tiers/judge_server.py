"""A server of OpenAI's chat completions that plays two models and their judge: python judge_server.py.

Prints its port. The strong model is right on hard questions; the judge prefers what is
right, and where nothing is, what stands first.
"""

import asyncio
import sys

from aiohttp import web


def answer(model: str, prompt: str) -> str:
    if model != "judge":
        return "right" if model == "strong" and "hard" in prompt else "something"
    first, second = prompt.split("[Answer of assistant A]")[1].split("[Answer of assistant B]")
    return "[[B]]" if "right" in second and "right" not in first else "[[A]]"


async def chat(request: web.Request) -> web.Response:
    body = await request.json()
    text = answer(body["model"], body["messages"][0]["content"])
    usage = {"prompt_tokens": 1000, "completion_tokens": 500}
    return web.json_response({"choices": [{"message": {"content": text}}], "usage": usage})


async def serve() -> None:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
