from dataclasses import replace

from wissel.core.intent import OTHER, UNKNOWN, Intent, NoScores, Pinned, Scores, choose_route


def test_of_equals_the_first_by_name_is_chosen_as_the_ranking_has_it():
    scores = Scores({"b": 0.5, "a": 0.5, "c": 0.1}, 0.2)

    assert choose_route(scores, fallback="c").route == scores.ranking[0][0] == "a"


def test_no_scores_at_all_are_other():
    chosen = choose_route(Scores({}, 0.2, "embedding"), fallback="c")

    assert (chosen.route, chosen.reason) == ("c", OTHER)


def test_who_could_not_say_is_known_of_the_choice():
    chosen = choose_route(Scores({"a": 0.5}, 0.2, detail="stage 2 gave none: away"), fallback="c")

    assert (chosen.reason, chosen.detail) == ("match", "stage 2 gave none: away")


def test_a_choice_holds_all_that_the_classifier_said():
    scores = Scores({"a": 0.5, "b": 0.4}, 0.5, "embedding", 0.9, detail="d")

    assert choose_route(scores, fallback="c") == Intent(
        "a", "match", 0.5, {"a": 0.5, "b": 0.4}, 0.5, "embedding", "d", 0.9
    )


def test_what_is_below_the_threshold_is_other_and_still_told():
    scores = Scores({"a": 0.49}, 0.5, "embedding", 0.9, detail="d")

    assert choose_route(scores, fallback="c") == Intent("c", "other", 0.49, {"a": 0.49}, 0.5, "embedding", "d", 0.9)


def test_the_intent_that_means_none_is_never_a_match():
    assert choose_route(Scores({OTHER: 0.9, "a": 0.6}, 0.5), fallback="c").reason == "other"


def test_a_pinned_session_names_its_header_and_no_scores_say_why():
    assert choose_route(Pinned("a", "x-session-id"), fallback="c") == Intent("a", "pinned", detail="by x-session-id")
    assert choose_route(NoScores("late", "after 150 ms"), fallback="c") == Intent("c", "late", detail="after 150 ms")


def test_what_was_not_understood_is_told_with_all_that_is_known_of_it():
    scores = Scores({"a": 0.9}, 0.5, "embedding", 0.9, understood=False, script="Thai")

    assert choose_route(scores, fallback="c") == Intent(
        "c", "not_understood", None, {"a": 0.9}, 0.5, "embedding", UNKNOWN, script="Thai"
    )
    assert choose_route(replace(scores, detail="noise"), fallback="c").detail == "noise"
