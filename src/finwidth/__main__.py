"""``python -m finwidth`` is the command ``finwidth``."""

from ._cli import main

if __name__ == "__main__":
    main()
