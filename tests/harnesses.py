"""What six clients send in one conversation, after their public documentation: the talk, and all that drifts round it.

Each gives a conversation's requests one after the other as (API, headers, body). Rules, environment and the first
words of a project are the same in all its sessions; clocks, billing, memory and retrieved texts are others in each
request.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

Sent = tuple[str, Mapping[str, str], dict[str, Any]]
TURNS = 10


def session_id(number: int) -> str:
    return str(UUID(int=number * 0x1234_5678_9ABC_DEF0_1357_9BDF + 7))


def ask(session: int, turn: int) -> str:
    return f"please change module {session} so that its tests pass" if not turn else f"and now step {turn}?"


def clock(turn: int) -> str:
    return f"2026-11-27 10:{turn:02}:31"


def part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def talk(
    session: int, turn: int, first: Callable[[str], Any], later: Callable[[str, int], Any]
) -> list[dict[str, Any]]:
    """All messages up to this turn."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": first(ask(session, 0))}]
    for at in range(1, turn + 1):
        messages += [{"role": "assistant", "content": f"done with {at - 1}"}]
        messages += [{"role": "user", "content": later(ask(session, at), at)}]
    return messages


def claude_code(session: int) -> Iterator[Sent]:
    identity = json.dumps({"device_id": "d" * 64, "account_uuid": "", "session_id": session_id(session)})
    for turn in range(TURNS):
        system = [
            {"type": "text", "text": f"x-anthropic-billing-header: cc_version=2.1.{turn}; cch={turn:05x};"},
            {"type": "text", "text": "You are Claude Code, Anthropic's official CLI for Claude."},
            {"type": "text", "text": f"Today's date is {clock(turn)}.\ngit status: {turn} files"},
        ]
        reminder = {"type": "text", "text": f"<system-reminder>\n# claudeMd\nrules {turn}\n</system-reminder>"}
        messages = talk(
            session, turn,
            lambda text, block=reminder: [block, part(text)],
            lambda text, at: [part(text), part(f"<system-reminder>todo {at}</system-reminder>")],
        )  # fmt: skip
        headers = {"x-claude-code-session-id": session_id(session), "user-agent": "claude-cli/2.1"}
        tools = [{"name": f"tool_{turn}", "input_schema": {}}]
        yield (
            "messages",
            headers,
            {"system": system, "messages": messages, "tools": tools, "metadata": {"user_id": identity}},
        )


def codex(session: int) -> Iterator[Sent]:
    for turn in range(TURNS):
        environment = (
            "<environment_context>\n  <cwd>/home/dev/project</cwd>\n  <shell>bash</shell>\n</environment_context>"
        )
        rules = "# AGENTS.md instructions for /home/dev/project\n\n<INSTRUCTIONS>\nrun the tests\n</INSTRUCTIONS>"
        items = [
            {
                "type": "message",
                "role": "developer",
                "content": [
                    {"type": "input_text", "text": f"<permissions instructions>{turn}</permissions instructions>"}
                ],
            }
        ]
        items += [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
            for text in (rules, environment)
        ]
        items += [
            {"type": "message", "role": each["role"], "content": [{"type": "input_text", "text": each["content"]}]}
            for each in talk(session, turn, lambda text: text, lambda text, _: text)
        ]
        items += [{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": f"note {turn}"}]}]
        body = {
            "instructions": "You are Codex, a coding agent.",
            "input": items,
            "prompt_cache_key": session_id(session),
            "store": False,
        }
        yield "responses", {"session-id": session_id(session), "x-client-request-id": f"r-{turn}"}, body


def cursor(session: int) -> Iterator[Sent]:
    for turn in range(TURNS):
        info = f"<user_info>\nOS Version: linux\nToday's date: Friday Nov 27, 2026 {turn}\n</user_info>"
        opened = f"<open_and_recently_viewed_files>\nfile_{turn}.py\n</open_and_recently_viewed_files>"
        messages: list[dict[str, Any]] = [{"role": "system", "content": "You are an AI coding assistant in Cursor."}]
        messages += [{"role": "user", "content": info}]
        messages += talk(
            session, turn,
            lambda text, files=opened: f"<additional_data>{files}</additional_data>\n<user_query>{text}</user_query>",
            lambda text, at: f"<timestamp>{at}</timestamp>\n<user_query>\n{text}\n</user_query>",
        )  # fmt: skip
        messages += [{"role": "system", "content": f"<system_reminder>plan {turn}</system_reminder>"}]
        yield (
            "chat",
            {},
            {
                "messages": messages,
                "user": "google-oauth2|1",
                "tools": [{"type": "function", "function": {"name": f"t{turn}"}}],
            },
        )


def opencode(session: int) -> Iterator[Sent]:
    for turn in range(TURNS):
        system = (
            f"You are opencode, an interactive CLI tool.\n<env>\nToday's date: {clock(turn)}\n</env>\nfiles: {turn}"
        )
        messages = [
            {"role": "system", "content": system},
            *talk(session, turn, lambda text: text, lambda text, _: text),
        ]
        headers = {"x-session-affinity": f"ses_{session:026x}", "x-opencode-request": f"msg_{turn}"}
        yield "chat", headers, {"messages": messages, "prompt_cache_key": f"ses_{session:026x}"}


def cline(session: int) -> Iterator[Sent]:
    for turn in range(TURNS):
        details = (
            f"<environment_details>\n# Current Time\n{clock(turn)}\n# Files\nfile_{turn}.py\n</environment_details>"
        )
        messages = talk(
            session, turn,
            lambda text, block=details: [part(f"<task>\n{text}\n</task>"), part(block)],
            lambda text, at: [
                part(f"<feedback>{text}</feedback>"), part(f"<environment_details>{clock(at)}</environment_details>")
            ],
        )  # fmt: skip
        system = {
            "role": "system",
            "content": f"You are Cline, a highly skilled software engineer.\n\nTool uses: {turn}",
        }
        yield "chat", {"x-task-id": f"17642{session:08}"}, {"messages": [system, *messages]}


def open_webui(session: int) -> Iterator[Sent]:
    for turn in range(TURNS):

        def with_sources(text: str, at: int) -> str:
            sources = f'<context>\n<source id="{at}">{clock(at)}</source>\n</context>'
            return f"### Task:\nRespond to the user query using the provided context.\n\n{sources}\n\n{text}"

        # Only the newest turn gets its sources.
        messages = talk(session, turn, lambda text: text, lambda text, _: text)
        messages[-1]["content"] = with_sources(messages[-1]["content"], turn)
        system = {
            "role": "system",
            "content": f"Current time: {clock(turn)}\nYou are helpful.\nUser Context:\n{turn}. likes tea",
        }
        yield "chat", {"x-openwebui-chat-id": session_id(session)}, {"messages": [system, *messages], "user": "ada"}


HARNESSES: Mapping[str, Callable[[int], Iterator[Sent]]] = {
    each.__name__: each for each in (claude_code, codex, cursor, opencode, cline, open_webui)
}


def without_ids(sent: Sent) -> Sent:
    """As a proxy on the way, an older version or a setting leaves it."""
    api, _, body = sent
    return api, {}, {name: value for name, value in body.items() if name not in {"prompt_cache_key", "metadata"}}
