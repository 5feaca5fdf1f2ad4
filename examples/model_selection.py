# %% [markdown]
# # Which activation and depth? Evidence against cross-validation
#
# The theory gives the log evidence of a network in milliseconds; scikit-learn cross-validates the
# same estimators. Do they choose alike? Diabetes data, noise and readout precision by evidence.

# %%
import matplotlib.pyplot as plt
from sklearn.datasets import load_diabetes
from sklearn.model_selection import cross_val_score

import finwidth as fw

X, y = load_diabetes(return_X_y=True)
X, y = X[:150], y[:150]
architectures = [("identity", 1), ("erf", 1), ("erf", 2), ("relu", 1), ("relu", 2)]

# %%
names, evidences, scores = [], [], []
for activation, depth in architectures:
    estimator = fw.FiniteWidthRegressor(widths=(20,) * depth, activation=activation)
    evidences.append(estimator.fit(X, y).log_evidence_)
    scores.append(cross_val_score(estimator, X, y, cv=3).mean())
    names.append(f"{activation}, {depth}")
    print(f"{names[-1]:>11}: log evidence {evidences[-1]:.2f}, R² {scores[-1]:.3f}")

# %%
figure, axis = plt.subplots(figsize=(5, 3.6))
axis.plot(evidences, scores, "o")
for name, evidence, score in zip(names, evidences, scores, strict=True):
    axis.annotate(name, (evidence, score), xytext=(0, 6), textcoords="offset points", ha="center")
axis.set(xlabel="log evidence", ylabel="cross-validated R²")
axis.margins(0.15)
figure.tight_layout()
figure.savefig("gallery-model_selection.png", dpi=100)
