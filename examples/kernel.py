# %% [markdown]
# # What the data do to the kernel
#
# Infinitely wide networks keep the kernel of the prior. A network of width 20 changes it: the
# saddle point of `nested` rescales it, that of `adaptive` lets its weights turn towards the labels.
# The alignment is yᵀKy/(P tr K), 1 for a kernel that knows the labels and nothing else.

# %%
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import finwidth as fw

data = fw.load_dataset("digits", classes=(0, 1), n_train=40, n_test=100)
order = np.argsort(data.y_train)  # so that the classes are blocks
X, y = data.X_train[order], data.y_train[order]
net = fw.Network(widths=(20,), activation="erf")

# %%
solutions: dict[str, Any] = {
    name: fw.solve(net, X, y, temperature=0.01, theory=name)
    for name in ("infinite", "nested", "adaptive")
}
largest = max(np.abs(one.renormalized_kernel).max() for one in solutions.values())

figure, axes = plt.subplots(1, 3, figsize=(13, 3.8))
for axis, (name, solution) in zip(axes, solutions.items(), strict=True):
    image = axis.imshow(solution.renormalized_kernel, cmap="RdBu_r", vmin=-largest, vmax=largest)
    aligned = y @ solution.renormalized_kernel @ y / len(y) / np.trace(solution.renormalized_kernel)
    error = float(solution.generalization_error(data.X_test, data.y_test).error)
    axis.set(title=f"{name}\nalignment {aligned:.2f}, error {error:.3f}", xlabel="pattern")
figure.colorbar(image, ax=axes, shrink=0.8)
figure.savefig("gallery-kernel.png", dpi=100, bbox_inches="tight")
