"""Sums at which requantised keys step, in exact arithmetic."""

from fractions import Fraction

__all__ = ["thresholds"]


def thresholds(slope: Fraction, intercept: Fraction, low: int, high: int, zero: int) -> list[int]:
    """Smallest sums that reach each key above `low`.

    Parameters
    ----------
    slope, intercept : Fraction
        The real key of a sum is `slope * sum + intercept`; `slope` is positive.
    low, high : int
        Smallest and largest key.
    zero : int
        Key of zero. Rounding comes before the zero point: a tie goes to the key that is an even
        number of steps from `zero`.

    Returns
    -------
    list of int, length high - low
        The i-th is the smallest sum whose rounded key is at least low + 1 + i.
    """
    # key is reached from key - 1/2 on; the tie itself goes to the even one of key - 1 and key.
    divisor = 2 * intercept.denominator * slope.numerator
    step = 2 * intercept.denominator * slope.denominator
    exact = ((2 * low + 1) * intercept.denominator - 2 * intercept.numerator) * slope.denominator
    result = []
    for key in range(low + 1, high + 1):
        smallest, over = divmod(exact, divisor)
        result.append(smallest + (over != 0 or (key - zero) % 2 == 1))
        exact += step
    return result
