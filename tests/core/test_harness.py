"""What a person wrote, among what harnesses wrap around it."""

from time import process_time

import pytest

from factories import conversation
from wissel.core.harness import BLOCKS, HARNESS, Harness
from wissel.core.request import Conversation, Turn

spoken, spoken_only = HARNESS.spoken, HARNESS.spoken_only
ASK = "Please review the liability clause of this contract."
RULES = "\n".join(f"- run pytest tests/test_{n}.py after each change" for n in range(60))


@pytest.mark.parametrize(
    "text",
    [
        ASK,
        f"<system-reminder>\n{RULES}\n</system-reminder>\n{ASK}",
        f"{ASK}\n<system-reminder>a</system-reminder><system-reminder>b</system-reminder>",
        f"<task>\n{ASK}\n</task>\n<environment_details>\n{RULES}\n</environment_details>",
        f'<attached_files kind="code">\n<file>{RULES}</file>\n</attached_files>\n<user_query>\n{ASK}\n</user_query>',
        f"### Task:\nRespond using the context, with citations.\n\n<context>\n{RULES}\n</context>\n\n{ASK}",
        f"<context>\n<context>inner</context>\n{ASK}",
        f"# AGENTS.md instructions for /home/dev\n\n<INSTRUCTIONS>\n{RULES}\n</INSTRUCTIONS>\n{ASK}",
        f"# Context from my IDE setup:\n\n## Open tabs:\n{RULES}\n\n## My request for Codex:\n{ASK}",
        f"<context>{RULES}</context><reminderInstructions>x</reminderInstructions><userRequest>{ASK}</userRequest>",
    ],
)
def test_the_persons_words_are_left(text: str):
    assert spoken(text) == ASK


@pytest.mark.parametrize(
    "text", ["<system-reminder> never closed. why?", "what does <context> mean?", "a < b > c", "</task> x"]
)
def test_a_tag_that_nobody_closed_is_the_persons(text: str):
    assert spoken(text) == text.replace("</task> ", "")


@pytest.mark.parametrize(
    "text",
    [
        "what does `<system-reminder>be brief</system-reminder>` do to the model?",
        'why do I find "<context>x</context>" in my logs',
        "it sent <context>x</context> again, is that a bug?",
        "> <context>x</context>\nis what it quoted",
        f"explain this:\n```xml\n<rules>\n{RULES}\n</rules>\n```\nline by line",
        "translate\n```\n<memory>a</memory>\n<memory>b</memory>\n```",
    ],
)
def test_a_block_that_a_person_quotes_stays(text: str):
    assert spoken(text) == text


@pytest.mark.parametrize("tag", ["workspace_snapshot", "ide-state", "openTabs"])
def test_a_block_of_a_tag_that_nobody_knows_goes_beside_a_question(tag: str):
    block = f"<{tag} version='2'>\n{RULES}\n</{tag}>"

    assert spoken(f"{block}\n{ASK}") == ASK
    assert spoken(block) == ""


@pytest.mark.parametrize(
    "text",
    [
        f"fix it:\n<app-bar>\n{RULES}\n</app-bar>",
        f"why is this list too wide?\n<div>\n{RULES}\n</div>",
        f"what is wrong with this element?\n```\n<app-bar>\n{RULES}\n</app-bar>\n```",
        "is <app-bar>x</app-bar> closed rightly?",
    ],
)
def test_what_a_person_may_have_pasted_stays(text: str):
    assert spoken(text) == text


def test_what_stands_in_a_block_is_no_fence_of_the_persons():
    assert spoken(f"<rules>\n```\n</rules>\n{ASK}\n<memory>m</memory>") == ASK


def test_only_the_tags_that_are_listed_go():
    text = f"<house-rules>be brief</house-rules>\n{ASK}\n<context>kept</context>"

    assert Harness(("house-rules",)).spoken(text) == f"{ASK}\n<context>kept</context>"
    assert Harness(()).spoken(text) == text


def test_every_tag_is_one_that_a_harness_documents_or_sends():
    claude_code = "system-reminder local-command-caveat local-command-stdout local-command-stderr"
    claude_code += " bash-stdout bash-stderr user-prompt-submit-hook task-notification"
    codex = "environment_context user_instructions collaboration_mode skills_instructions turn_aborted"
    codex += " subagent_notification INSTRUCTIONS"
    cline = "environment_details file_content folder_content final_file_content explicit_instructions"
    cursor = "system_reminder user_info git_status rules agent_skills additional_data attached_files project_layout"
    cursor += " open_and_recently_viewed_files manually_attached_skills timestamp agent_transcripts"
    vs_code = "environment_info workspace_info editorContext reminderInstructions attachments repoContext"
    retrieved = "context retrieved_context documents sources search_results memories memory transcript"
    of_all = f"{claude_code} {codex} {cline} {cursor} {vs_code} {retrieved}".split()

    assert set(BLOCKS) == {*of_all, "permissions instructions"}


@pytest.mark.parametrize("tag", BLOCKS)
def test_every_block_goes_when_it_is_complete(tag: str):
    assert spoken(f"<{tag}>{RULES}</{tag}>") == ""


def test_turns_that_are_a_harness_alone_are_no_turns():
    said = conversation("<environment_context>cwd</environment_context>", "", ASK)

    assert spoken_only(said) == Conversation((Turn("assistant", ""), Turn("user", ASK)))


def test_what_nobody_said_stays_as_it_is():
    said = Conversation((Turn("user", "<environment_context>cwd</environment_context>"),))

    assert spoken_only(said) is said


@pytest.mark.parametrize(
    "unit", ["<context><rules><memory>", "a <memory>b</memory> c ", "`<memory>b</memory>` ", "<a_", "\n<a_b>"]
)
def test_tags_without_end_or_in_quotes_take_time_that_grows_with_their_number_alone(unit: str):
    def seconds(count: int) -> float:
        began = process_time()
        spoken(unit * count)
        return process_time() - began

    seconds(1000)
    assert seconds(80_000) < 40 * max(seconds(10_000), 0.002)


def test_only_so_many_blocks_of_one_turn_are_taken_out():
    assert spoken("<context>x</context>" * 500 + ASK) == ASK
    assert spoken("<context>x</context>" * 501 + ASK) == f"<context>x</context>{ASK}"


def test_of_a_long_conversation_only_the_latest_turns_are_looked_at():
    wrapped = Turn("user", f"<context>{'x' * 1000}</context>{ASK}")

    turns = spoken_only(Conversation((wrapped,) * 1000)).turns

    assert (turns[0], turns[-1]) == (wrapped, Turn("user", ASK))
    assert 100 < turns.count(Turn("user", ASK)) < 200
