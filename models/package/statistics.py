"""Intervals and tests of shares: numbers in, numbers out.

A share is one of 0 to 1 of ``n`` trials, n at least 1. An interval is its lower and upper end, ``z`` standard errors of a
normal distribution to each side; those of differences are of new minus old.
"""

from math import sqrt

Z = 1.959964  # two-sided 95 %
Interval = tuple[float, float]


def wilson(share: float, n: int, z: float = Z) -> Interval:
    """Wilson's score interval of a share. Wilson 1927, Journal of the American Statistical Association 22, 209."""
    centre = share + z**2 / (2 * n)
    half = z * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)
    return low if share > 0 else 0.0, high if share < 1 else 1.0  # rounded, they might miss these ends


def newcombe(old: float, old_n: int, new: float, new_n: int, z: float = Z) -> Interval:
    """Newcombe's hybrid score interval, his method 10, of the difference of two shares of trials of their own, made of
    Wilson's of each. Newcombe 1998, Statistics in Medicine 17, 873."""
    (old_low, old_high), (new_low, new_high) = wilson(old, old_n, z), wilson(new, new_n, z)
    low = new - old - sqrt((new - new_low) ** 2 + (old_high - old) ** 2)
    high = new - old + sqrt((new_high - new) ** 2 + (old - old_low) ** 2)
    return low, high


def agresti_min(worse: int, better: int, n: int, z: float = Z) -> Interval:
    """Agresti and Min's interval of the difference of two shares of the same trials: Wald's with half a trial more in each of
    the four cells, which holds its level for few trials too. Agresti and Min 2005, Statistics in Medicine 24, 729.

    worse, better: the trials of the n that the old one alone succeeded in, and the new one alone.
    """
    b, c, n = worse + 0.5, better + 0.5, n + 2
    centre = (c - b) / n
    half = z * sqrt(max(0.0, b + c - (c - b) ** 2 / n)) / n
    return max(-1.0, centre - half), min(1.0, centre + half)


def agresti_coull_variance(share: float, n: int) -> float:
    """Agresti and Coull's variance of a share: that of a binomial one with two successes and two failures more. Agresti and
    Coull 1998, American Statistician 52, 119."""
    more = n + 4
    share = (share * n + 2) / more
    return share * (1 - share) / more


def mcnemar(worse: int, better: int) -> float:
    """McNemar's exact test, two-sided: the probability of so uneven a split or a more uneven one, were both equally good.
    McNemar 1947, Psychometrika 12, 153.

    worse, better: the trials that the old one alone succeeded in, and the new one alone.
    """
    return min(1.0, 2 * binomial_tail(min(worse, better), worse + better))


def binomial_tail(k: int, n: int) -> float:
    """Binomial tail, exact: the probability of at most ``k`` heads in ``n`` throws of a fair coin."""
    term = total = 1
    for i in range(k):
        term = term * (n - i) // (i + 1)
        total += term
    return total / 2**n  # of whole numbers, which Python divides exactly, however large
