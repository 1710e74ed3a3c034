"""Classic learners: what the loops really do is what the closed forms count, and they decide as scikit-learn does."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.evidence.studies.cases import classic_ml as counts
from waferline.evidence.studies.facts import facts
from waferline.evidence.studies.registry import load_study, run_study

from . import classic_ml_run as run

ARITHMETIC = ("add", "sub", "mul", "div", "cmp")


def counted(array, tally):
    if np.ndim(array) == 0:
        return run.Counted(float(array), tally)
    return [counted(a, tally) for a in array]


def same(tally, kernel):
    wanted = kernel.operations
    assert {k: tally[k] for k in ARITHMETIC} == {k: getattr(wanted, k) for k in ARITHMETIC}


SIZES = st.integers(1, 7)


@settings(deadline=None, max_examples=25)
@given(features=SIZES, classes=SIZES, seed=st.integers(0, 99))
def test_linear_learners_do_what_is_counted(features, classes, seed):
    rng, tally = np.random.default_rng(seed), Counter()
    x, w, b = rng.standard_normal(features), rng.standard_normal((classes, features)), rng.standard_normal(classes)
    found = run.linear_svm(*(counted(v, tally) for v in (x, w, b)), counted(0.0, tally))
    assert found == int(np.argmax(w @ x + b))
    same(tally, counts.linear_svm(features, classes))
    tally.clear()
    chances = run.logistic_regression(*(counted(v, tally) for v in (x, w, b)), lambda v: counted(v, tally))
    np.testing.assert_allclose([c.value for c in chances], 1 / (1 + np.exp(w @ x + b)), rtol=3e-6)
    run.smallest(chances)
    same(tally, counts.logistic_regression(features, classes))


@settings(deadline=None, max_examples=25)
@given(features=SIZES, classes=SIZES, seed=st.integers(0, 99))
def test_naive_bayes_does_what_is_counted(features, classes, seed):
    rng, tally = np.random.default_rng(seed), Counter()
    x, means = rng.standard_normal(features), rng.standard_normal((classes, features))
    halves, priors = rng.random((classes, features)), rng.standard_normal(classes)
    found = run.gaussian_naive_bayes(*(counted(v, tally) for v in (x, means, halves, priors)), counted(0.0, tally))
    assert found == int(np.argmin(((x - means) ** 2 * halves).sum(1) + priors))
    same(tally, counts.gaussian_naive_bayes(features, classes))


@settings(deadline=None, max_examples=25)
@given(features=SIZES, support=st.integers(4, 12), neighbours=st.integers(1, 4), seed=st.integers(0, 99))
def test_neighbours_do_what_is_counted(features, support, neighbours, seed):
    rng, tally = np.random.default_rng(seed), Counter()
    x, rows = rng.standard_normal(features), rng.standard_normal((support, features))
    found = run.nearest_neighbours(counted(x, tally), counted(rows, tally), neighbours, counted(0.0, tally))
    assert found == np.argsort(((rows - x) ** 2).sum(1), kind="stable")[:neighbours].tolist()
    same(tally, counts.nearest_neighbours(features, support, neighbours))


def test_k_means_does_what_is_counted_and_agrees_with_scikit_learn():
    cluster = pytest.importorskip("sklearn.cluster")
    rng, tally = np.random.default_rng(0), Counter()
    rows, centres = rng.standard_normal((30, 3)), rng.standard_normal((4, 3))
    found = run.k_means(counted(rows, tally), counted(centres, tally), lambda v: counted(v, tally))
    peer = cluster.KMeans(4, init=centres, n_init=1, max_iter=1).fit(rows)
    nearest = ((rows[:, None] - centres) ** 2).sum(-1).argmin(1)
    wanted = np.array([rows[nearest == c].mean(0) for c in range(4)])
    np.testing.assert_allclose([[v.value for v in row] for row in found], wanted)
    assert peer.n_iter_ == 1
    same(tally, counts.k_means(3, 30, 4))


def test_trees_walk_as_scikit_learn_does():
    tree = pytest.importorskip("sklearn.tree")
    rng = np.random.default_rng(0)
    feature, threshold = rng.integers(0, 3, 7), rng.standard_normal(7)
    tally = Counter()
    x = rng.standard_normal(3)
    leaf = run.walk_tree(counted(x, tally), feature.tolist(), counted(threshold, tally), 3)
    assert 7 <= leaf < 15 and tally["cmp"] == 3 == counts.random_forest(1, 3, 1).operations.cmp
    rows, labels = rng.standard_normal((40, 1)), None
    labels = (rows[:, 0] > 0.2).astype(int)
    peer = tree.DecisionTreeClassifier(max_depth=1).fit(rows, labels)
    cut = float(peer.tree_.threshold[0])
    ours = [run.walk_tree(row, [0], [cut], 1) - 1 for row in rows.tolist()]
    assert ours == peer.predict(rows).tolist()


@given(features=st.integers(1, 64), classes=st.integers(1, 32), cores=st.integers(1, 16))
def test_cores_never_gain_more_than_their_number(features, classes, cores):
    cost = facts("nonneural-pulp")["cycles"]["native"]
    for kernel in (counts.logistic_regression(features, classes), counts.linear_svm(features, classes)):
        assert 0 < kernel.speedup(cost, cores, 0.9) <= cores
        assert kernel.speedup(cost, 1, 1.0) == pytest.approx(1.0)


def test_the_study_says_why_it_misses():
    report = run_study(load_study("nonneural-pulp"))
    assert all(c.why for c in report.misses) and len(report.misses) <= 3
    assert report.count("bound holds") + report.count("identity") >= 9
