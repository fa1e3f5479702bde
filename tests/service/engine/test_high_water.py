"""What a rush has taken is given back once, when it is over for a while."""

from service.engine.high_water import QUIET_TURNS, HighWater


def test_what_was_not_needed_for_some_turns_is_given_back_once() -> None:
    water = HighWater(10)
    assert [water.turn(used) for used in (50, *[20] * QUIET_TURNS)] == [None] * QUIET_TURNS + [20]
    assert water.mark == 20
    assert [water.turn(20) for _ in range(3 * QUIET_TURNS)] == [None] * 3 * QUIET_TURNS


def test_nothing_is_given_back_while_the_rush_comes_again() -> None:
    water = HighWater(10)
    for _ in range(5):
        assert [water.turn(used) for used in (50, *[1] * (QUIET_TURNS - 1))] == [None] * QUIET_TURNS


def test_what_is_kept_in_any_case_is_never_given_back() -> None:
    water = HighWater(10)
    assert [water.turn(used) for used in (10, *[0] * 3 * QUIET_TURNS)] == [None] * (3 * QUIET_TURNS + 1)
    assert [water.turn(used) for used in (11, *[0] * QUIET_TURNS)] == [None] * QUIET_TURNS + [10]
