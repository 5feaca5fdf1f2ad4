# %% [markdown]
# # How wide is wide?
#
# The test error of one hidden layer against its width, by four theories and, at three widths, by
# the exact posterior. Where the lines meet, the network may as well be infinitely wide.

# %%
import matplotlib.pyplot as plt
import numpy as np

import finwidth as fw

data = fw.load_dataset("digits", classes=(0, 1), n_train=50, n_test=100)
train, test = (data.X_train, data.y_train), (data.X_test, data.y_test)
net = fw.Network(widths=(10,), activation="erf")
widths = [10, 20, 50, 100, 200, 500, 1000]

# %%
figure, axis = plt.subplots(figsize=(5.5, 3.8))
for theory in ("infinite", "nested", "adaptive", "cavity"):
    errors = []
    for width in widths:
        try:
            solution = fw.solve(
                net.replace(widths=(width,)), *train, temperature=0.1, theory=theory
            )
        except fw.ConvergenceError:  # the branch of `cavity` may end
            errors.append(np.nan)
        else:
            errors.append(float(solution.generalization_error(*test).error))
    axis.plot(widths, errors, label=theory)

# %% [markdown]
# What they are to be judged by, with its Monte Carlo standard error.

# %%
for width in (10, 50, 200):
    tree = fw.sample(
        net.replace(widths=(width,)),
        *train,
        temperature=0.1,
        X_test=test[0],
        y_test=test[1],
        num_warmup=300,
        num_samples=500,
        progress=False,
    )
    scores = fw.scores(tree)
    bar = 2 * float(scores.error_mcse)
    axis.errorbar(width, float(scores.error), bar, fmt="ko", label="exact" if width == 10 else None)

axis.set(xscale="log", xlabel="width", ylabel="test error")
axis.legend()
figure.tight_layout()
figure.savefig("gallery-width.png", dpi=100)
