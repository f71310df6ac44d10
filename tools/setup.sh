#!/bin/sh
# Makes .venv with hotbed (editable) and the packages it is developed with.
#
#   tools/setup.sh [EXTRAS]     EXTRAS: extras of pyproject.toml, comma separated; "dev" unless given
#   PYTHON=python3.12 tools/setup.sh
#
# Needs a Python >= 3.11 and a package index, nothing else. Does nothing when .venv is current.
set -eu
cd "$(dirname "$0")/.."
extras=${1:-dev}
unset PYTHONHOME PYTHONPATH || true # a borrowed path would decide what counts as installed

say() { printf '  %-8s %s\n' "$1" "$2"; }
die() { printf 'setup: %s\n' "$1" >&2; exit 1; }

# Prints the real executable (a pyenv shim or an active venv is looked through), or fails.
probe() {
    "$1" -c 'import sys
if sys.version_info < (3, 11): sys.exit(3)
print(getattr(sys, "_base_executable", None) or sys.executable)' 2>/dev/null
}

version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# A venv that works, has pip, and is of the version asked for, if one was.
usable() {
    [ -x .venv/bin/python ] && .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
        { [ -z "${PYTHON:-}" ] || [ "$(version .venv/bin/python)" = "$(version "$PYTHON")" ]; }
}

# The directory counts: the scripts of a venv hold its path, so a copied tree must be set up again.
stamp=$({ printf '%s\n' "$extras"; pwd; cat pyproject.toml tools/setup.sh; } | cksum)
if usable && [ -f .venv/stamp ] && [ "$(cat .venv/stamp)" = "$stamp" ]; then
    exit 0
fi

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# Without a home the caches of pip and uv would land in the root directory.
if [ -z "${HOME:-}" ] || [ ! -d "$HOME" ] || [ ! -w "$HOME" ]; then
    HOME=$tmp
    export HOME
fi

if ! usable; then
    rm -rf .venv
    python=
    if [ -n "${PYTHON:-}" ]; then
        python=$(probe "$PYTHON") || die "PYTHON=$PYTHON does not run or is older than Python 3.11; name another one"
    else
        for name in python3.13 python3.12 python3.11 python3; do
            if python=$(probe "$name"); then break; fi
        done
        [ -n "$python" ] || die "no Python >= 3.11 on PATH; install one (apt-get install python3) or run: make setup PYTHON=/path/to/python"
    fi
    say python "$(version "$python") ($python)"

    # Debian packs ensurepip apart: there venv fails half way and leaves a directory behind.
    if "$python" -m venv .venv >"$tmp/venv.log" 2>&1; then
        say venv "made by the venv module"
    elif rm -rf .venv && "$python" -m virtualenv -q .venv >"$tmp/virtualenv.log" 2>&1; then
        say venv "made by virtualenv"
    elif rm -rf .venv && "$python" -m pip install -q --target "$tmp/virtualenv" virtualenv >"$tmp/pip.log" 2>&1 &&
        PYTHONPATH="$tmp/virtualenv" "$python" -m virtualenv -q .venv >"$tmp/virtualenv.log" 2>&1; then
        say venv "made by a borrowed virtualenv"
    elif rm -rf .venv && uv venv -q --seed --python "$python" .venv >"$tmp/uv.log" 2>&1; then
        say venv "made by uv"
    else
        rm -rf .venv
        cat "$tmp/venv.log" >&2
        die "$python cannot make a virtual environment; run: apt-get install python3-venv (python$(version "$python")-venv alone is enough)"
    fi
fi

python=$PWD/.venv/bin/python
rm -f .venv/stamp
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USER=0

# uv is ten times quicker than pip but reads none of pip's settings, so the index ones are handed over.
# A setting looks like  global.index-url='https://...'  ; they go by the environment, since a URL may hold a password.
settings=$("$python" -m pip config list 2>/dev/null) || settings=
setting() { printf '%s\n' "$settings" | sed -n "s/^[^=]*\.$1='\(.*\)'\$/\1/p" | head -n 1 | sed 's/\\n/ /g; s/^ *//; s/ *$//'; }
quickly() {
    "$python" -m pip install -q uv || return 1
    (
        index=$(setting index-url) more=$(setting extra-index-url) links=$(setting find-links) cert=$(setting cert)
        if [ -n "$index" ]; then export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"; fi
        if [ -n "$more" ]; then export UV_INDEX="${UV_INDEX:-$more}"; fi
        if [ -n "$links" ]; then export UV_FIND_LINKS="${UV_FIND_LINKS:-$(echo "$links" | tr -s ' ' ',')}"; fi
        if [ -n "$cert" ]; then export SSL_CERT_FILE="${SSL_CERT_FILE:-$cert}"; fi
        # pip takes the best version of all indexes; uv would stop at the first that knows the name.
        export UV_INDEX_STRATEGY="${UV_INDEX_STRATEGY:-unsafe-best-match}" UV_PYTHON_DOWNLOADS=never
        # Copies: a file edited in a hard-linked .venv would change in uv's cache, and so in every other environment.
        export UV_LINK_MODE="${UV_LINK_MODE:-copy}"
        # pip compiles, uv only if told; a benchmark against an uncompiled pandas would flatter us.
        export UV_COMPILE_BYTECODE="${UV_COMPILE_BYTECODE:-1}"
        "$python" -m uv pip install -q --python "$python" -e ".[$extras]"
    )
}

if quickly >"$tmp/uv.log" 2>&1; then
    say packages "hotbed[$extras] installed by uv"
else
    say packages "uv could not install hotbed[$extras] ($(grep . "$tmp/uv.log" | tail -n 1 | cut -c 1-120)); using pip"
    "$python" -m pip install -q -e ".[$extras]" || die "pip could not install hotbed[$extras]; the lines above say why"
    say packages "hotbed[$extras] installed by pip"
fi
printf '%s\n' "$stamp" >.venv/stamp
say ready ".venv"
