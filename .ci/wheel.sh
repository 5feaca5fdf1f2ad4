#!/bin/sh
# Build sdist and wheel into dist, install the wheel in a clean environment outside of the
# repository, and there run the demo and the tests of the public surface. `make wheel` calls it.
set -eu
rm -rf dist
.venv/bin/python -m hatchling build --directory dist
wheel=$(ls dist/finwidth-*.whl)
size=$(wc -c <"$wheel")
echo "$wheel: $size bytes"
if [ "$size" -ge 2000000 ]; then
    echo "expected a wheel below 2 MB, got $size bytes" >&2
    exit 1
fi

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cp "$wheel" "$place"
sh .ci/environment.sh wheel "$place"
mkdir "$place/tests"
cp pyproject.toml "$place" # what pytest reads
cp -R tests/conftest.py tests/settings.py tests/data tests/test_neural_tangents.py \
    tests/test_public_surface.py "$place/tests"
cd "$place"
unset PYTHONPATH || true
.venv/bin/finwidth info
.venv/bin/finwidth demo --out demo
.venv/bin/python -m pytest -q -p no:cacheprovider -p no:zarr -m "not slow" tests
