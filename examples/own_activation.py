# %% [markdown]
# # An activation of your own
#
# The logistic function. It is not odd: the mean of its output is 1/2, so the theory has a mean
# term and two order parameters per layer.

# %%
import jax

import finwidth as fw

logistic = fw.Activation("logistic", fn=jax.nn.sigmoid)

# %% [markdown]
# Nothing else is needed: its Gaussian moments are computed numerically.

# %%
data = fw.load_dataset("digits", classes=(3, 8), n_train=40, n_test=40)
net = fw.Network(widths=(20,), activation=logistic)
theory = fw.solve(net, data.X_train, data.y_train, temperature=0.1)
print(theory.order_parameters)
print(theory.generalization_error(data.X_test, data.y_test))

# %% [markdown]
# What is known in closed form can be given. The mean is 1/2 whatever the variance, as σ(h) − 1/2
# is odd. `check_activation` holds it against quadrature.

# %%
logistic = fw.Activation("logistic", fn=jax.nn.sigmoid, mean=lambda c_xx: 0.5 + 0.0 * c_xx)
for check, deviation in fw.testing.check_activation(logistic).items():
    print(f"{check:>22}: {deviation:.1e}")
