"""The solver of networks against the plain least squares of its equations, one row for each."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from ftrack.smoother import ORDER, WEAK, Network, Prior, _fit, products_of, solve_network, vectors_of

RNG = np.random.default_rng(4)
INTERVALS, IMAGES = 6, 4


def make_network() -> Network:
    """Return all pairs of four images over six intervals of one year."""
    pairs = [(i, j) for i in range(IMAGES) for j in range(i + 1, IMAGES)]
    ends = np.linspace(0, INTERVALS, IMAGES)
    edges = np.arange(INTERVALS + 1.0)
    design = np.zeros((len(pairs), INTERVALS + IMAGES))
    for row, (i, j) in enumerate(pairs):
        overlap = np.clip(np.minimum(ends[j], edges[1:]) - np.maximum(ends[i], edges[:-1]), 0, None)
        design[row, :INTERVALS] = overlap / overlap.sum()
        design[row, [INTERVALS + i, INTERVALS + j]] = np.array([-1, 1]) / overlap.sum()
    years = np.array([ends[j] - ends[i] for i, j in pairs])
    sparse = scipy.sparse.csr_array(design)
    return Network(edges, sparse, products_of(sparse), years, (design[:, :INTERVALS] > 0).astype(float))


def test_products_are_those_of_every_two_elements_of_a_row() -> None:
    design = make_network().design.toarray()
    plain = np.einsum("pi,pj->pij", design, design).reshape(len(design), -1)
    np.testing.assert_allclose(make_network().products.toarray(), plain, rtol=1e-12)


@pytest.mark.parametrize("common", [0.02, 0.5, 0.9])
def test_the_solution_is_that_of_plain_least_squares(common: float) -> None:
    network = make_network()
    values, errors = RNG.normal(100, 30, (3, 6)), RNG.uniform(1, 20, (3, 6))
    values[1, 2] = np.nan
    vectors = vectors_of(values, errors, network)
    prior = Prior(np.full(3, 50.0), np.full(3, common))
    fit = _fit(vectors, network, prior)
    for place in range(3):
        known = np.isfinite(values[place])
        bends = np.diff(np.eye(INTERVALS), ORDER, axis=0) / np.sqrt(50.0)
        changes = np.diff(np.eye(INTERVALS), axis=0) * np.sqrt(WEAK / 50.0)
        positions = np.diag(1 / np.sqrt(vectors.images[place] * common / 2))
        rows = network.design.toarray()[known] / errors[place][known, None] / np.sqrt(1 - common)
        before = np.pad(np.vstack([bends, changes]), ((0, 0), (0, IMAGES)))
        whole = np.vstack([rows, before, np.pad(positions, ((0, 0), (INTERVALS, 0)))])
        right = np.concatenate([values[place][known] / errors[place][known] / np.sqrt(1 - common), np.zeros(len(whole) - known.sum())])
        np.testing.assert_allclose(fit.mean[place], np.linalg.lstsq(whole, right)[0], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(fit.root[place] @ fit.root[place].T, whole.T @ whole, rtol=1e-9, atol=1e-12)


def test_a_smoothness_that_is_given_is_used() -> None:
    network = make_network()
    values = np.array([[100.0, 140.0, 110.0, 160.0, 120.0, 90.0]])
    stiff, soft = (solve_network([vectors_of(values, values * 0 + 5, network)], network, s) for s in (0.01, 100.0))
    bends = [np.abs(np.diff(s.velocity[0, 0], 2)).max() for s in (stiff, soft)]
    assert bends[0] < 0.05 < 1 < bends[1]
    assert (soft.error > stiff.error).all()


def test_vectors_without_an_error_count_like_the_others() -> None:
    network = make_network()
    vectors = vectors_of(np.full((1, 6), 10.0), np.array([[2.0, 2.0, np.nan, 0.0, 2.0, 2.0]]), network)
    np.testing.assert_allclose(vectors.weight, 0.25)
