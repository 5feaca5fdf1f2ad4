# %% [markdown]
# # A curve through points
#
# One input, a few labels, and what networks of width 5 believe in between: the theory, the exact
# posterior and infinite width. Biases let the curve leave the origin.

# %%
import matplotlib.pyplot as plt
import numpy as np

import finwidth as fw

rng = np.random.default_rng(3)
x = np.sort(rng.uniform(-3, 3, 10))[:, None]
y = np.sin(1.5 * x[:, 0]) + 0.1 * rng.normal(size=10)
grid = np.linspace(-4, 4, 81)[:, None]

net = fw.Network(widths=(5,), activation="erf", weight_precision=(0.2, 0.5), bias_precision=0.5)
TEMPERATURE = 0.01

# %% [markdown]
# The three posteriors; of the sampled one, mean and deviation of its draws of f.

# %%
bands = {}
for theory in ("nested", "infinite"):
    prediction = fw.solve(net, x, y, temperature=TEMPERATURE, theory=theory).predict(grid)
    bands[theory] = prediction.mean, np.sqrt(prediction.variance)

tree = fw.sample(
    net, x, y, X_test=grid, num_warmup=500, num_samples=500, temperature=TEMPERATURE, progress=False
)
draws = tree["predictions"]["f"].stack(draw_=("chain", "draw"))
bands["exact"] = draws.mean("draw_").values, draws.std("draw_").values

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), sharey=True)
for axis, (name, (mean, deviation)) in zip(axes, bands.items(), strict=True):
    axis.fill_between(grid[:, 0], mean - 2 * deviation, mean + 2 * deviation, alpha=0.25)
    axis.plot(grid[:, 0], mean)
    axis.plot(x[:, 0], y, "k.")
    axis.set(title=name, xlabel="x")
axes[0].set_ylabel("f, mean ± 2 standard deviations")
figure.tight_layout()
figure.savefig("gallery-regression.png", dpi=100)
