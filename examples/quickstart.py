# %% [markdown]
# # Theory against the exact posterior, in one screen
#
# One description of the network serves both. Run it as a script or cell by cell.

# %%
import finwidth as fw

TEMPERATURE = 0.1
data = fw.load_dataset("digits", classes=(0, 1), n_train=50, n_test=20)

# %% [markdown]
# The narrower the network, the more its prediction differs from that of infinite width.

# %%
for width in (20, 50, 500):
    net = fw.Network(widths=(width,), activation="erf")
    theory = fw.solve(net, data.X_train, data.y_train, temperature=TEMPERATURE)
    q_bar = float(theory.order_parameters["q_bar"].sel(layer=1))
    error = float(theory.generalization_error(data.X_test, data.y_test)["error"])
    print(f"N_1 = {width:3d}: q_bar = {q_bar:.4f}, test error {error:.4f}")

# %% [markdown]
# What the network itself does at width 20, and whether the theory says so too.

# %%
net = fw.Network(widths=(20,), activation="erf")
theory = fw.solve(net, data.X_train, data.y_train, temperature=TEMPERATURE)
tree = fw.sample(
    net,
    data.X_train,
    data.y_train,
    temperature=TEMPERATURE,
    X_test=data.X_test,
    y_test=data.y_test,
    num_warmup=200,
    num_samples=300,
    num_chains=2,
    progress=False,
)
report = fw.compare(theory, tree)
print(report.attrs["verdict"])

# %%
fw.save(fw.attach(tree, theory), "quickstart.nc")
