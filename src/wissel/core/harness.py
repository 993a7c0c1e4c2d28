"""What a person wrote, taken out of what a client's harness wrapped around it.

    <system-reminder>…</system-reminder> why is this slow? <environment_details>…    ->    why is this slow?

Agents and chat clients put rules, files, clocks and retrieved texts into the
turns of the user, mostly between tags of their own. Only complete blocks go: a
tag that nobody closes may be what the person asks about, and so may one that is
quoted. A turn that holds nothing else is none of the person's.
"""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Final

from wissel.core.request import Conversation

BLOCKS: Final = (
    # Claude Code
    "system-reminder", "local-command-caveat", "local-command-stdout", "local-command-stderr", "bash-stdout",
    "bash-stderr", "user-prompt-submit-hook", "task-notification",
    # Codex
    "environment_context", "user_instructions", "permissions instructions", "collaboration_mode", "skills_instructions",
    "turn_aborted", "subagent_notification", "INSTRUCTIONS",
    # Cline, Roo and Kilo
    "environment_details", "file_content", "folder_content", "final_file_content", "explicit_instructions",
    # Cursor
    "system_reminder", "user_info", "git_status", "rules", "agent_skills", "additional_data", "attached_files",
    "open_and_recently_viewed_files", "project_layout", "manually_attached_skills", "timestamp", "agent_transcripts",
    # VS Code
    "environment_info", "workspace_info", "editorContext", "reminderInstructions", "attachments", "repoContext",
    # Clients that retrieve
    "context", "retrieved_context", "documents", "sources", "search_results", "memories", "memory", "transcript",
)  # fmt: skip
"""Tags of what harnesses put in, as they document it or send it."""

SPANS: Final = (
    ("# AGENTS.md instructions", "</INSTRUCTIONS>"),
    ("### Task:", "</context>"),
)
"""From where to where a template goes that is no element: Codex's rules of a project, Open WebUI's retrieved texts."""

WRAPPERS: Final = ("user_query", "task", "userRequest", "user_message", "feedback")
"""Tags around the person's own words, which stay."""

MARKERS: Final = ("## My request for Codex:",)
"""What stands before the person's words, and after everything else."""

_WRAPPER: Final = re.compile(rf"</?(?:{'|'.join(WRAPPERS)})>")
_QUOTES: Final = frozenset("`'\"“‘«„‹「『")
_MADE: Final = re.compile(
    r"^[ \t]*<([A-Za-z][\w.:]{0,40}(?:[-_]|(?<=[a-z0-9])[A-Z])[\w.:-]{0,40})(?:\s[^<>]{0,200})?>", re.MULTILINE
)
"""A tag on a line of its own that no language of pages has: nobody knows it, and some harness made it up."""
_QUESTION: Final = 12
"""Bytes of a person's words that say by themselves what is asked; beside fewer, a block that nobody knows stays."""
_FENCE: Final = "```"
_MOST_OPENINGS: Final = 500
"""In one turn that are looked at; others stay."""
MOST_LOOKED_AT: Final = 128 * 1024
"""Characters of a conversation in which a person's words are looked for: many times what is read of them."""
_LOOKED_AT: Final = 256
"""Characters of a line before a block, and behind it."""


@dataclass(frozen=True)
class Harness:
    """`intent.strip`: what goes of what clients send as a person's words."""

    blocks: tuple[str, ...] = BLOCKS
    """Names of tags."""

    def spoken(self, text: str) -> str:
        """The person's words in a turn; empty where there are none."""
        if not self.blocks:
            return text.strip()
        for marker in MARKERS:
            _, found, rest = text.rpartition(marker)
            text = rest if found else text
        if "<" in text:
            for opening, ending in SPANS:
                text = _without_span(text, opening, ending)
            text = _WRAPPER.sub("", _without_blocks(text, self._opening)).strip()
            outside = _without_blocks(text, _MADE).strip()
            return text if 0 < len(outside.encode("utf-8", "surrogatepass")) < _QUESTION else outside
        return text.strip()

    def spoken_only(self, conversation: Conversation) -> Conversation:
        """The conversation as people have it: without turns of the user that are a harness's alone.

        Where no turn is a person's it stays as it is: there is nothing better to go by. Of a very long one only the
        latest turns are looked at, which are those that are read.
        """
        said = list(conversation.turns)
        left = MOST_LOOKED_AT
        for at in reversed(range(len(said))):
            if said[at].role == "user" and left > 0:
                left -= len(said[at].text)
                said[at] = replace(said[at], text=self.spoken(said[at].text))
        kept = tuple(turn for turn in said if turn.role != "user" or turn.text)
        return Conversation(kept) if any(turn.role == "user" for turn in kept) else conversation

    @cached_property
    def _opening(self) -> re.Pattern[str]:
        return re.compile(rf"<({'|'.join(map(re.escape, self.blocks))})(?:\s[^<>]{{0,200}})?>")


def _without_blocks(text: str, openings: re.Pattern[str]) -> str:
    kept: list[str] = []
    closings: dict[str, int] = {}
    """By tag, where it is closed next; looking again for each would take time that grows with the square."""
    at = fences = counted = 0
    for opening in islice(openings.finditer(text), _MOST_OPENINGS):
        tag = opening[1]
        if opening.start() < at:
            continue
        closing = closings.get(tag, 0)
        if 0 <= closing < opening.end():
            closing = closings[tag] = text.find(f"</{tag}>", opening.end())
        if closing < 0:
            continue
        end = closing + len(tag) + 3
        fences += text.count(_FENCE, counted, opening.start())
        counted = end
        if fences % 2 or _is_quoted(text, at, opening.start(), end):
            counted = opening.end()
            continue
        kept.append(text[at : opening.start()])
        at = end
    return "".join((*kept, text[at:]))


def _is_quoted(text: str, begin: int, start: int, end: int) -> bool:
    """Whether a person quotes the block: between quotes, in a line that is quoted, or amid words of the same line."""
    before = text[max(begin, start - _LOOKED_AT) : start].rpartition("\n")[2].strip()
    if not before:
        return False
    after = text[end : end + _LOOKED_AT].partition("\n")[0].strip()
    return before[-1] in _QUOTES or before[0] == ">" or after[:1] not in {"", "<"}


def _without_span(text: str, opening: str, ending: str) -> str:
    start = 0 if text.startswith(opening) else text.find(f"\n{opening}")
    end = text.find(ending, start) if start >= 0 else -1
    return text[:start] + text[end + len(ending) :] if end >= 0 else text


HARNESS: Final = Harness()
"""What is known of clients."""
