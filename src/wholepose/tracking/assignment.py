"""The best pairs of two groups, exactly: what ``scipy.optimize.linear_sum_assignment`` does, without SciPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def assign(gains: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs rows with columns so that the sum of the gains of all pairs is as large as it can be.

    Shortest augmenting paths with potentials (Jonker and Volgenant): O(N^2 M) in the worst case, with the inner loop in
    NumPy. A frame has tens of people and not thousands, so a greedy choice would save nothing, and it errs just where
    people overlap.

    Args:
        gains: (N, M) finite; a pair that gains nothing (0 or less) is not made.

    Returns:
        Rows and columns of the pairs, (P,) int64 each, rows ascending; no row and no column comes twice.

    Raises:
        ValueError: The array is not two-dimensional or not finite.
    """
    costs = -np.maximum(np.asarray(gains, dtype=np.float64), 0)
    if costs.ndim != 2 or not np.isfinite(costs).all():
        raise ValueError(f"gains must be a finite (N, M) array; shape {costs.shape}")
    if costs.shape[0] > costs.shape[1]:
        columns, rows = assign(np.asarray(gains).T)
        order = np.argsort(rows)
        return rows[order], columns[order]
    row_of_column = _augment(costs)
    columns = np.flatnonzero(row_of_column >= 0)
    rows = row_of_column[columns]
    gaining = costs[rows, columns] < 0
    rows, columns = rows[gaining], columns[gaining]
    order = np.argsort(rows)
    return rows[order], columns[order]


def _augment(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """The cheapest way to give each of N rows one of M >= N columns: (M,) the row of each column, or -1."""
    count, width = costs.shape
    row_of_column = np.full(width, -1, dtype=np.int64)
    row_potential, column_potential = np.zeros(count), np.zeros(width)
    for start in range(count):
        shortest = np.full(width, np.inf)
        parent = np.full(width, -1, dtype=np.int64)  # the column before, on the path from `start`
        done = np.zeros(width, dtype=np.bool_)
        row, column, length = start, -1, 0.0
        while True:
            reach = length + costs[row] - row_potential[row] - column_potential
            better = ~done & (reach < shortest)
            shortest[better] = reach[better]
            parent[better] = column
            column = int(np.argmin(np.where(done, np.inf, shortest)))
            length = float(shortest[column])
            done[column] = True
            if row_of_column[column] < 0:
                break
            row = int(row_of_column[column])
        passed = done & (row_of_column >= 0)
        row_potential[start] += length
        row_potential[row_of_column[passed]] += length - shortest[passed]
        column_potential[passed] -= length - shortest[passed]
        while column >= 0:  # turn the path over
            before = int(parent[column])
            row_of_column[column] = start if before < 0 else row_of_column[before]
            column = before
    return row_of_column
