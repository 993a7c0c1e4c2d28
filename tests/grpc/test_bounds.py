from wissel.grpc.bounds import Allowance


def test_an_allowance_lasts_for_ten_seconds():
    allowance = Allowance(2)
    spent = [allowance.spend(now) for now in (100.0, 100.0, 109.9, 110.0, 110.1, 110.1, 110.1)]

    assert spent == [True, True, False, False, True, True, False]


def test_useful_work_earns_more():
    allowance = Allowance(1)
    allowance.earn(2)

    assert [allowance.spend(5.0) for _ in range(4)] == [True, True, True, False]
