#!/bin/sh
# Make a virtual environment with ring3 in it, from this checkout. Usage: sh setup.sh [DIR] [EXTRA]
#
# DIR is .venv by default; EXTRA is "test" for what the tests need. Needs Python 3.11 or newer, its venv module and a
# C compiler; as root on a Debian-like system, what is missing of these is installed. PYTHON names the interpreter.
set -eu
cd "$(dirname "$0")"
venv=${1:-.venv}
extra=${2:-}

# Install Debian packages if that is possible; say so if not.
install() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing $*"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q >/dev/null
        apt-get install -q -y --no-install-recommends "$@" >/dev/null
    else
        echo "setup: missing, and I cannot install it here: $*" >&2
        return 1
    fi
}

find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

command -v "${CC:-gcc}" >/dev/null || command -v cc >/dev/null || command -v clang >/dev/null || install gcc
python=$(find_python) || {
    install python3 python3-venv
    python=$(find_python) || { echo "setup: Python 3.11 or newer is needed (PYTHON=/path/to/python3)" >&2; exit 1; }
}
"$python" -c 'import ensurepip, venv' 2>/dev/null || install python3-venv
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install -q --disable-pip-version-check -e ".${extra:+[$extra]}"
