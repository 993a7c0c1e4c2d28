"""A minimal server of OpenAI's chat completions, for one small model: python openai_server.py MODEL_DIRECTORY.

Prints its port. It knows `response_format` with a JSON schema and `logprobs`, as the servers that wissel meets do.
"""

import asyncio
import json
import sys

import torch
from aiohttp import web
from transformers import AutoModelForCausalLM, AutoTokenizer


def complete(model, tokenizer, asked):
    ids = tokenizer.apply_chat_template(
        asked["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )["input_ids"]
    start = ids.shape[1]
    schema = asked["response_format"]["json_schema"]["schema"]
    names = schema["properties"]["route"]["enum"]
    legal = [[*tokenizer.encode(json.dumps({"route": name})), tokenizer.eos_token_id] for name in names]

    def allowed(_, written):
        said = written[start:].tolist()
        return [answer[len(said)] for answer in legal if answer[: len(said)] == said]

    written = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=asked["max_tokens"],
        do_sample=False,
        prefix_allowed_tokens_fn=allowed,
        output_logits=True,
        return_dict_in_generate=True,
    )
    tokens = written.sequences[0, start:].tolist()
    return tokenizer.decode(tokens, skip_special_tokens=True), [
        told(tokenizer, token, logits[0].log_softmax(-1), asked["top_logprobs"])
        for token, logits in zip(tokens, written.logits, strict=True)
    ]


def told(tokenizer, token, logprobs, count):
    def one(which):
        return {"token": tokenizer.decode([which]), "logprob": logprobs[which].item()}

    return {**one(token), "top_logprobs": [one(which) for which in logprobs.topk(count).indices.tolist()]}


async def serve(directory):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()

    async def chat(request):
        content, steps = complete(model, tokenizer, await request.json())
        message = {"role": "assistant", "content": content}
        return web.json_response({"choices": [{"message": message, "logprobs": {"content": steps}}]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
