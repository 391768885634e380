#!/bin/sh
# Installs this bundle of llmos, without a network: sh install.sh [--venv DIR] [--home DIR] [--python PYTHON]
# It checks every file, makes a virtual environment, installs the wheels into it, and loads the models into the home.
set -eu

want_python='@PYTHON@'
want_platform='@PLATFORM@'
want_glibc='@GLIBC@'
version='@VERSION@'
has_models='@HAS_MODELS@'

fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

usage() {
    cat <<END
sh install.sh [--venv DIR] [--home DIR] [--python PYTHON]
  --venv DIR       where the environment is made (default: llmos-venv beside the bundle)
  --home DIR       the home that the models are loaded into (default: LLMOS_HOME, else ~/.llmos)
  --python PYTHON  the Python to make it with (default: the first that fits)
END
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P) || fail 'the folder of this bundle cannot be entered'
venv=$(dirname -- "$here")/llmos-venv
home=${LLMOS_HOME:-}
python=

while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        usage
        exit 0
        ;;
    --venv | --home | --python)
        [ $# -ge 2 ] && [ -n "$2" ] || fail "$1 needs a value. See: sh install.sh --help"
        case $1 in
        --venv) venv=$2 ;;
        --home) home=$2 ;;
        --python) python=$2 ;;
        esac
        shift 2
        ;;
    *) fail "there is no option $1. See: sh install.sh --help" ;;
    esac
done
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac
case $home in '' | /*) ;; *) home=$PWD/$home ;; esac

# Whether a daemon has the lock of this home: also one that hangs, or answers on another port.
is_locked() {
    "$python" -I -c '
import fcntl, os, sys
try:
    lock = os.open(os.path.join(sys.argv[1], "daemon.lock"), os.O_RDWR)
except OSError:
    sys.exit(1)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(0)
sys.exit(1)
' "$1"
}

# What a Python says of itself: its name and version, its platform, its C library.
describe() {
    "$1" -c '
import os, sys, sysconfig
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or "other 0"
except (AttributeError, ValueError, OSError):
    libc = "other 0"
name = "%s-%d.%d%s" % (sys.implementation.name, sys.version_info[0], sys.version_info[1], getattr(sys, "abiflags", ""))
print(name, sysconfig.get_platform(), libc.replace(" ", "-"))
' 2>/dev/null
}

# Whether version $1 is at least $2; both are MAJOR.MINOR.
at_least() {
    minor=${1#*.}
    [ "${1%%.*}" -gt "${2%%.*}" ] || { [ "${1%%.*}" -eq "${2%%.*}" ] && [ "${minor%%.*}" -ge "${2#*.}" ]; }
}

if [ -n "$want_python" ]; then
    found=
    said=
    if [ -n "$python" ]; then
        set -- "$python"
    else
        set -- "python${want_python#*-}" python3 python
    fi
    for one in "$@"; do
        command -v "$one" >/dev/null 2>&1 || continue
        said=$(describe "$one") || continue
        found="${found:+$found, }$said"
        if [ "${said%% *}" = "$want_python" ]; then
            python=$one
            break
        fi
        said=
    done
    [ -n "$found" ] || fail "no ${python:-Python} runs here. This bundle needs $want_python; name it: --python PYTHON"
    [ -n "$said" ] || fail "this bundle is for $want_python on $want_platform, and here is: $found. Name another Python (--python), or make a bundle with that one"
    rest=${said#* }
    platform=${rest%% *}
    libc=${rest#* }
    [ "$platform" = "$want_platform" ] || fail "this bundle is for $want_platform, and this machine is $platform. Make a bundle on a machine like this one"
    if [ -n "$want_glibc" ]; then
        case $libc in
        glibc-*) at_least "${libc#glibc-}" "$want_glibc" || fail "this bundle needs glibc $want_glibc or later, and this machine has ${libc#glibc-}. Use a later system" ;;
        *) fail "this bundle needs glibc $want_glibc, and this machine has another C library. Make a bundle on a machine like this one" ;;
        esac
    fi
fi

command -v sha256sum >/dev/null 2>&1 || fail 'there is no sha256sum here, which checks the files. Install coreutils'
echo '· checking the files of the bundle'
(cd -- "$here" && sha256sum -c SHA256SUMS >/dev/null 2>&1) || {
    (cd -- "$here" && sha256sum -c SHA256SUMS 2>/dev/null | grep -v ': OK$' | head -n 5 >&2) || :
    fail 'the bundle is damaged. Nothing was installed. Copy it again'
}
for one in "$here"/wheels/*; do
    [ -e "$one" ] || [ -L "$one" ] || continue
    cut -d ' ' -f 3- "$here/SHA256SUMS" | grep -qxF "wheels/${one##*/}" ||
        fail "$one is no file of this bundle. Nothing was installed. Take it out"
done

if [ -n "$want_python" ]; then
    if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ]; then
        fail "$venv is there, and is no virtual environment. Name another: --venv DIR"
    fi
    parent=$(dirname -- "$venv")
    mkdir -p -- "$parent" && [ -w "$parent" ] || fail "$parent cannot be written. Name another place: --venv DIR"
    was_there=
    if [ -x "$venv/bin/llmos" ]; then
        was_there=1
        if is_locked "${home:-$HOME/.llmos}"; then
            fail "llmos is up, and its files cannot be replaced under it. Nothing was installed. Stop it: llmos down"
        fi
    fi
    echo "· making $venv"
    "$python" -m venv "$venv" || fail "$python could not make a virtual environment; it said why above. On Debian and Ubuntu the package python3-venv is needed"
    echo "· installing llmos $version"
    pip() {
        "$venv/bin/python" -m pip --isolated --disable-pip-version-check install --quiet --no-index --no-cache-dir \
            --find-links "$here/wheels" --only-binary :all: "$@"
    }
    pip --require-hashes -r "$here/requirements.txt" || fail 'pip could not install the wheels; it said why above. Repeat this command when that is mended'
    if [ -n "$was_there" ]; then # other code may have the same version
        own=$(mktemp) || fail 'no temporary file can be made. Set TMPDIR'
        trap 'rm -f -- "$own"' EXIT
        grep "^llmos==" "$here/requirements.txt" >"$own" || fail 'requirements.txt does not name llmos'
        pip --no-deps --force-reinstall --require-hashes -r "$own" || fail 'pip could not install llmos; it said why above'
    fi
    llmos=$venv/bin/llmos
else
    llmos=$(command -v llmos) || fail 'this bundle has no wheels, and there is no llmos on the PATH. Install llmos first'
fi

if [ -n "$has_models" ]; then
    echo '· loading the models'
    [ -z "$home" ] || export LLMOS_HOME="$home"
    "$llmos" unbundle "$here" || fail 'the models were not loaded; llmos said why above. Repeat this command when that is mended'
fi

echo 'Done. Next:'
[ -z "$home" ] || printf "  export LLMOS_HOME='%s'\n" "$home"
printf "  '%s' up\n" "$llmos"
printf "  '%s' ls\n" "$llmos"
