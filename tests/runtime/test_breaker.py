from wissel.runtime.breaker import Breaker


def broken(**options):
    breaker = Breaker(failures=3, cooldown=10.0, **options)
    for _ in range(3):
        breaker.enter()
        breaker.fail(now=100.0)
    return breaker


def test_a_server_is_asked_until_it_has_failed_often_enough_in_a_row():
    breaker = Breaker(failures=3)
    allowed = []
    for outcome in (breaker.fail, breaker.fail, lambda _: breaker.succeed(), breaker.fail, breaker.fail, breaker.fail):
        allowed.append(breaker.allows(0.0))
        breaker.enter()
        outcome(0.0)

    assert allowed == [True] * 6
    assert not breaker.allows(0.0)


def test_only_the_failure_that_opens_it_says_so_and_a_trial_that_fails_opens_it_again():
    breaker = Breaker(failures=2, cooldown=10.0)
    opened = [breaker.fail(now) for now in (100.0, 100.0, 100.1)]
    breaker.enter()

    assert [*opened, breaker.fail(115.0)] == [False, True, False, True]


def test_after_the_cooldown_one_request_may_try():
    breaker = broken()
    assert not breaker.allows(109.9)
    assert breaker.allows(110.0)

    breaker.enter()

    assert not breaker.allows(110.0)


def test_a_trial_that_succeeds_closes_it():
    breaker = broken()
    breaker.enter()

    breaker.succeed()

    assert breaker.allows(100.0)


def test_a_trial_that_fails_opens_it_again():
    breaker = broken()
    breaker.enter()

    breaker.fail(now=110.0)

    assert not breaker.allows(119.0)
    assert breaker.allows(120.0)


def test_a_trial_that_its_caller_gave_up_leaves_room_for_another():
    breaker = broken()
    breaker.enter()

    breaker.leave()

    assert breaker.allows(110.0)
