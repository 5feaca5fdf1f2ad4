"""NumPyro kernels for posteriors under Gaussian priors.

`SplitHMC` integrates the Gaussian prior exactly, `Langevin` is the noisy gradient descent of
the theory. Both are `numpyro.infer.mcmc.MCMCKernel` objects: ``MCMC(SplitHMC(model), ...)``.
"""

from ._langevin import Langevin as Langevin
from ._split_hmc import SplitHMC as SplitHMC

__all__ = ["Langevin", "SplitHMC"]
