"""What quadrature makes of a kink, against a quadrature of another kind."""

import numpy as np
import pytest
from scipy.integrate import quad

import finwidth as fw

# patterns whose h have these covariances for weight_precision = 1 and one input
X = np.array([[0.5], [1.0], [2.0], [-1.5]])


def sigma(h: float) -> float:
    return float(np.log1p(max(h, 0.0)))


def expected(x: float, y: float) -> float:
    """E[σ(xz)σ(yz)], z ~ N(0, 1): patterns of one input are on a line, where ρ = ±1."""

    def integrand(z: float) -> float:
        return sigma(x * z) * sigma(y * z) * float(np.exp(-z * z / 2)) / np.sqrt(2 * np.pi)

    return sum(quad(integrand, *part, epsabs=1e-13)[0] for part in ((-12, 0), (0, 12)))


def test_the_installed_plugin_provides_it() -> None:
    assert "log_relu" in fw.list_activations()
    assert fw.Network(widths=(10,), activation="log_relu").activation.name == "log_relu"


def test_the_error_is_said_and_is_no_larger() -> None:
    """The worst case, patterns on a line; the bound is what the warning states."""
    net = fw.Network((4,), "log_relu")
    with pytest.warns(fw.AccuracyWarning, match=r"'log_relu'.*got (\d)e-06 ") as caught:
        got = fw.nngp_kernel(net, X)
    stated = float(str(caught[0].message).partition("got ")[2].split()[0])
    exact = np.array([[expected(x, y) for y in X[:, 0]] for x in X[:, 0]])
    scale = np.sqrt(np.multiply.outer(np.diag(exact), np.diag(exact)))
    error = float((np.abs(got - exact) / scale).max())
    assert 1e-8 < error < 1.1 * stated + 5e-7  # which is rounded to one digit


def test_apart_from_the_line_it_is_exact() -> None:
    """|ρ| = 0.6: E over the one direction that h and h' share, given the other two."""
    points = np.sqrt(2) * np.array([[1.0, 0.0], [0.6, 0.8]])
    with pytest.warns(fw.AccuracyWarning):
        got = fw.nngp_kernel(fw.Network((4,), "log_relu"), points)[0, 1]

    def inner(h: float) -> float:
        """E[σ(0.6 h + 0.8 z)]."""
        values = [
            quad(
                lambda z: sigma(0.6 * h + 0.8 * z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi),
                *part,
                epsabs=1e-12,
            )[0]
            for part in ((-12.0, -0.75 * h), (-0.75 * h, 12.0))
        ]
        return float(sum(values))

    exact = quad(
        lambda h: sigma(h) * inner(h) * np.exp(-h * h / 2) / np.sqrt(2 * np.pi), 0, 12, epsabs=1e-11
    )[0]
    assert float(got) == pytest.approx(exact, rel=1e-9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::finwidth.AccuracyWarning")
def test_it_keeps_the_contract_of_an_activation() -> None:
    report = fw.testing.check_activation(fw.get_activation("log_relu"))
    assert report["kernel"] < 1e-5
    assert report["mean"] < 1e-12
