from wissel.core.intent import OTHER, Scores, choose_route


def test_of_equals_the_first_by_name_is_chosen_as_the_ranking_has_it():
    scores = Scores({"b": 0.5, "a": 0.5, "c": 0.1}, 0.2)

    assert choose_route(scores, fallback="c").route == scores.ranking[0][0] == "a"


def test_no_scores_at_all_are_other():
    chosen = choose_route(Scores({}, 0.2, "embedding"), fallback="c")

    assert (chosen.route, chosen.reason) == ("c", OTHER)


def test_who_could_not_say_is_known_of_the_choice():
    chosen = choose_route(Scores({"a": 0.5}, 0.2, detail="stage 2 gave none: away"), fallback="c")

    assert (chosen.reason, chosen.detail) == ("match", "stage 2 gave none: away")
