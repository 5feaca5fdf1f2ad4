#!/bin/sh
# Make .venv: the packages of requirements.lock, finwidth and its example plugins.
#
#   environment.sh check         print what is missing on this machine, or nothing
#   environment.sh               set up; needs a Python >= 3.12, and uv or pip or venv to start from
#   environment.sh plugin DIR    install the distribution in a folder into .venv, in place
#   environment.sh wheel DIR     make DIR/.venv of the wheel in DIR and what its tests need, pinned
#   environment.sh lock          write requirements.lock anew
#
# The Makefile calls both, from the top of the repository.
set -eu
IFS='
'
export UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1 PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
unset VIRTUAL_ENV PYTHONPATH PYTHONHOME || true

# Prints the path of interpreter $1 if it runs and is new enough.
modern() {
    "$1" -c 'import sys; sys.version_info >= (3, 12) and print(sys.executable)' 2>/dev/null || true
}

# Prints the first Python >= 3.12 on the PATH, else one of pyenv's or uv's.
find_python() {
    pyenv=${PYENV_ROOT:-${HOME:-}/.pyenv}/versions
    managed=${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-${HOME:-}/.local/share}/uv/python}
    for candidate in python3.12 python3.13 python3.14 python3 python \
        "$pyenv"/3.1[2-9]*/bin/python3 "$managed"/cpython-3.1[2-9]*/bin/python3; do
        found=$(modern "$candidate")
        if [ -n "$found" ]; then
            echo "$found"
            return
        fi
    done
}

# Prints whatever python3 there is, of any version, for its pip alone.
any_python() {
    for candidate in "$python" python3 python; do
        if "$candidate" -c '' 2>/dev/null; then echo "$candidate"; fi
    done
}

has() { # has INTERPRETER MODULE
    "$1" -c "import $2" 2>/dev/null
}

problem() {
    if [ -z "$python" ]; then
        seen=$(python3 --version 2>/dev/null || echo "no python3")
        echo "expected Python 3.12 or newer on the PATH, got $seen: install Python 3.12" \
            "(your system's package manager, pyenv, conda or 'uv python install 3.12')"
        return
    fi
    if uv --version >/dev/null 2>&1; then return; fi
    for candidate in $(any_python); do
        if has "$candidate" pip || has "$candidate" ensurepip; then return; fi
    done
    echo "expected pip, venv or uv beside $python, got none of them: install pip" \
        "(Debian and Ubuntu: apt install python3-pip)"
}

# Prints a uv to use: the one on the PATH, else one put into .setup with pip.
find_uv() {
    if uv --version >/dev/null 2>&1; then
        echo uv
        return
    fi
    if .setup/bin/uv --version >/dev/null 2>&1; then
        echo .setup/bin/uv
        return
    fi
    for candidate in $(any_python); do
        rm -rf .setup
        if has "$candidate" pip; then
            "$candidate" -m pip install --quiet --target .setup uv >&2 || continue
        elif has "$candidate" ensurepip; then
            "$candidate" -m venv .setup >&2 || continue
            .setup/bin/python -m pip install --quiet uv >&2 || continue
        else
            continue
        fi
        echo .setup/bin/uv
        return
    done
    echo "expected pip to install uv into .setup, got the errors above" >&2
    return 1
}

python=$(find_python)
if [ "${1:-}" = check ]; then
    problem
    exit
fi
message=$(problem)
if [ -n "$message" ]; then
    echo "$message" >&2
    exit 1
fi

uv=$(find_uv)

# uv does not read pip's settings: hand over the index that this machine's pip uses.
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
    index=${PIP_INDEX_URL:-$("$python" -m pip config get global.index-url 2>/dev/null || true)}
    if [ -n "$index" ]; then export UV_DEFAULT_INDEX="$index"; fi
fi

if [ "${1:-}" = lock ]; then
    "$uv" export --quiet --upgrade --python "$python" --format requirements-txt --no-emit-project \
        --no-header --no-annotate --extra dev --extra plots -o requirements.lock
    exit
fi

if [ "${1:-}" = wheel ]; then
    "$uv" venv --quiet --python "$python" "$2/.venv"
    wheel=$(ls "$2"/finwidth-*.whl)
    VIRTUAL_ENV=$2/.venv "$uv" pip install --quiet --constraints requirements.lock \
        "finwidth[plots] @ file://$wheel" beartype hypothesis pandas pytest pytest-timeout
    exit
fi

if [ "${1:-}" = plugin ]; then
    if [ ! -f "${2:-}/pyproject.toml" ]; then
        echo "expected DIR = the folder of a distribution, with its pyproject.toml, got '${2:-}'" >&2
        exit 1
    fi
    VIRTUAL_ENV=$PWD/.venv "$uv" pip install --quiet --no-build-isolation -e "$2"
    exit
fi

# .venv/.unfinished exists from before the first package to after the last: an environment that
# has it was interrupted, and is made anew.
if [ -e .venv/.unfinished ] || [ -z "$(modern .venv/bin/python)" ]; then
    rm -rf .venv
    "$uv" venv --quiet --python "$python" .venv
fi
touch .venv/.unfinished
VIRTUAL_ENV=$PWD/.venv
export VIRTUAL_ENV
"$uv" pip install --quiet --require-hashes -r requirements.lock
"$uv" pip install --quiet --no-deps --no-build-isolation -e . -e plugins/finwidth-gelu \
    -e plugins/finwidth-leaky-relu -e plugins/finwidth-log-relu -e plugins/finwidth-lowrank
rm .venv/.unfinished
