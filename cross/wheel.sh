#!/usr/bin/env bash
# Builds the wheel of the Python module for devices, and tests it as one would run it.
#
#   cross/wheel.sh aarch64|armv7|x86_64 [--test]
#
# The wheel serves Python 3.9 and later; its name tells the oldest glibc that it starts with. With --test, Debian 11's Python
# runs the module's tests in qemu, with the numpy that PyPI has for the target, which it does not have for armv7.
# A Python of this machine brings maturin, in an environment of its own.
set -euo pipefail
source "$(dirname "$0")/targets.sh"
cd "$(dirname "$0")/.."

[[ $# = 1 || $# = 2 && $2 = --test ]] || fail "expected a target (aarch64, armv7 or x86_64), and --test or nothing"
use_target "$1"
[[ $# = 1 || $target = aarch64 ]] || fail "--test is for aarch64; elsewhere: pytest cross/python"

tools=$CROSS/python
[ -x "$tools/bin/pip" ] || python3 -m venv "$tools" || fail "no Python 3 with venv: install it"
"$tools/bin/pip" install --quiet --disable-pip-version-check 'maturin>=1.9,<2'

wheels=${CARGO_TARGET_DIR:-$PWD/target}/wheels
# What Python calls the machine.
machine=${triple%%-*}
[ "$target" != armv7 ] || machine=armv7l
rm -f "$wheels"/pupil-*_"$machine".whl
"$tools/bin/maturin" build --quiet --locked --release --manifest-path cross/python/Cargo.toml \
    --target "$triple" --out "$wheels"
wheel=$(echo "$wheels"/pupil-*_"$machine".whl)
printf '%6.2f MB  %s\n' "$(stat -c %s "$wheel")e-6" "$wheel"
[ $# = 2 ] || exit 0

python=$CROSS/$target/sysroot/usr/bin/python3.9
[ -x "$python" ] || fail "no Python for $target: run cross/setup.sh $target"
packages=$wheels/packages-$target
rm -rf "$packages"
# What pytest needs besides on this Python, pip would only see if it ran on it.
"$tools/bin/pip" install --quiet --disable-pip-version-check --target "$packages" --only-binary :all: \
    --implementation cp --python-version 3.9 --abi cp39 --abi abi3 --abi none \
    --platform manylinux_2_31_aarch64 --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 \
    "$wheel" pytest exceptiongroup tomli typing_extensions
PYTHONPATH=$packages PYTHONDONTWRITEBYTECODE=1 "$qemu" -L "$CROSS/$target/sysroot" "$python" -m pytest --quiet \
    -p no:cacheprovider cross/python
